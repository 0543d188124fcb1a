package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.org/ordertrail/internal/retry"
)

// The first failure is reported, and the success after it, with how long it took. A success
// at once is not reported.
func TestForever(t *testing.T) {
	for failures, want := range map[int][]string{0: nil, 3: {"away 1 0s", "<nil> 3s"}} {
		synctest.Test(t, func(t *testing.T) {
			var reports []string
			calls := 0
			got, err := retry.Forever(context.Background(), time.Second, func(err error, waited time.Duration) {
				reports = append(reports, fmt.Sprint(err, " ", waited))
			}, func(context.Context) (string, error) {
				if calls++; calls <= failures {
					return "", fmt.Errorf("away %d", calls)
				}
				return "here", nil
			})
			if got != "here" || err != nil || !slices.Equal(reports, want) {
				t.Errorf("after %d failures: %q, %v, reports %q, want %q", failures, got, err, reports, want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		reports := 0
		_, err := retry.Forever(ctx, time.Second, func(error, time.Duration) { reports++ },
			func(context.Context) (any, error) { return nil, errors.New("away") })
		if err == nil || reports != 1 {
			t.Errorf("at the end of the context: %v, %d reports", err, reports)
		}
	})
}
