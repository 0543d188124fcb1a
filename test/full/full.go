// Package full marks the tests that only a full run has.
package full

import (
	"os"
	"testing"
)

// Variable is the environment variable whose value "full" asks for a full run.
const Variable = "ORDERTRAIL_TESTS"

// Only skips a test that starts many processes, a browser or a cluster, unless the
// environment has ORDERTRAIL_TESTS=full, as in .ci/run. Without these tests `go test work`
// takes less than three minutes instead of six.
func Only(t testing.TB) {
	t.Helper()
	switch value := os.Getenv(Variable); value {
	case "full":
	case "":
		t.Skipf("takes long: %s=full runs it", Variable)
	default:
		t.Fatalf("%s=%s: want full", Variable, value)
	}
}
