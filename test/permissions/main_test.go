package permissions_test

import (
	"testing"

	"example.org/ordertrail/test/systemtest"
)

func TestMain(m *testing.M) { systemtest.Main(m, 4) }
