package system_test

import (
	"context"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/test/systemtest"
)

// soon is a deadline that suffices for an order, and that a test can wait for.
const soon = 5 * time.Second

// Each scenario ends as it should, through the API, and all at once.
func TestScenarios(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, systemtest.Deadline(soon))
	sys.AwaitStock(t)
	for _, sc := range demo.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			if _, err := systemtest.Play(context.Background(), sys.Shop, sc); err != nil {
				t.Error(err)
			}
		})
	}
}
