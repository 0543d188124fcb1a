package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/ordertrail/internal/event"
)

// Gateway is the card processor. Both calls are idempotent per key.
type Gateway interface {
	// Charge takes the money and returns the charge's id, the same one each time
	// for the same key, also after a refund. It returns ErrDeclined when the card
	// is refused; any other error leaves open whether the money was taken.
	Charge(ctx context.Context, c Charge) (id string, err error)
	// Refund gives back what was charged under the key. It succeeds if nothing was
	// charged, or everything was refunded already.
	Refund(ctx context.Context, key string) error
}

// Charge is a request to the gateway.
type Charge struct {
	Key     string // idempotency key: the order's id
	Token   string // of the card
	Amount  event.Money
	Attempt uint64 // the number of the order's delivery, from 1
}

// ErrDeclined is returned for a card that is refused.
var ErrDeclined = errors.New("card declined")

// errGateway is a failure of the simulated gateway.
var errGateway = errors.New("card gateway: internal error")

// slow is the duration of a charge to tok_slow.
const slow = time.Second

// SimulatedGateway decides by test tokens, like a card processor's test cards:
//
//	tok_ok        charged
//	tok_declined  declined, as is every token that is not listed here
//	tok_slow      charged after a second
//	tok_flaky     fails on attempts 1 and 2, then charged
//	tok_poison    always fails
//
// It has no state, so that all replicas answer alike: a charge's id is derived from
// its key.
type SimulatedGateway struct{}

// Charge implements Gateway.
func (SimulatedGateway) Charge(ctx context.Context, c Charge) (string, error) {
	switch c.Token {
	case "tok_ok":
	case "tok_slow":
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	case "tok_flaky":
		if c.Attempt <= 2 {
			return "", fmt.Errorf("%w on attempt %d", errGateway, c.Attempt)
		}
	case "tok_poison":
		return "", errGateway
	default:
		return "", ErrDeclined
	}
	return "ch_" + c.Key, nil
}

// Refund implements Gateway.
func (SimulatedGateway) Refund(context.Context, string) error { return nil }
