package payments

import (
	"context"
	"errors"
	"testing"

	"example.org/ordertrail/internal/event"
)

// The test tokens decide, the same on every replica: nothing is remembered.
func TestSimulatedGateway(t *testing.T) {
	for _, tc := range []struct {
		token   string
		attempt uint64
		want    error
	}{
		{"tok_ok", 1, nil},
		{"tok_slow", 1, nil},
		{"tok_declined", 1, ErrDeclined},
		{"tok_unheard_of", 1, ErrDeclined},
		{"", 1, ErrDeclined},
		{"tok_flaky", 1, errGateway},
		{"tok_flaky", 2, errGateway},
		{"tok_flaky", 3, nil},
		{"tok_poison", 100, errGateway},
	} {
		t.Run(tc.token, func(t *testing.T) {
			t.Parallel()
			charge := Charge{Key: "order", Token: tc.token, Amount: event.Money{Amount: 1, Currency: "EUR"}, Attempt: tc.attempt}
			id, err := SimulatedGateway{}.Charge(context.Background(), charge)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("attempt %d: got %v, want %v", tc.attempt, err, tc.want)
			}
			again, _ := SimulatedGateway{}.Charge(context.Background(), charge)
			if again != id {
				t.Errorf("charged again as %q, want %q", again, id)
			}
		})
	}
	t.Run("StopsWaiting", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := (SimulatedGateway{}).Charge(ctx, Charge{Token: "tok_slow"}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}
