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
	// Refund gives back what was charged under the key. To find nothing there, or
	// everything given back already, is a success.
	Refund(ctx context.Context, key string) error
}

// Charge is what the gateway is asked for.
type Charge struct {
	Key     string // idempotency key: the order's id
	Token   string // stands for the card
	Amount  event.Money
	Attempt uint64 // which delivery of the order asks, from 1
}

// ErrDeclined is returned for a card that is refused.
var ErrDeclined = errors.New("card declined")

// errGateway is the simulated gateway's failure.
var errGateway = errors.New("card gateway: internal error")

// slow is how long tok_slow takes.
const slow = time.Second

// SimulatedGateway decides by test tokens, like a card processor's test cards:
//
//	tok_ok        charged
//	tok_declined  declined, as is every token not listed here
//	tok_slow      charged after a second
//	tok_flaky     fails on attempts 1 and 2, then charged
//	tok_poison    always fails
//
// It keeps nothing, so that all replicas answer alike: a charge's id follows
// from its key.
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
