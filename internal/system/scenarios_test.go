package system_test

import (
	"context"
	"testing"

	"ordertrail/internal/demo"
	"ordertrail/internal/system/systemtest"
)

// Each scenario ends as it should, through the API, and all at once.
func TestScenarios(t *testing.T) {
	sys := systemtest.Start(t)
	for _, sc := range demo.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			if _, err := demo.Play(context.Background(), sys.Shop, sc); err != nil {
				t.Error(err)
			}
		})
	}
}
