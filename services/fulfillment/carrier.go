package fulfillment

import (
	"context"
	"errors"
	"strings"
)

// Carrier takes parcels. Both calls are idempotent per key.
type Carrier interface {
	// Book books a parcel and returns its id, the same one each time for the same
	// key. It returns ErrRefused when the carrier will never take it; any other
	// error leaves open whether it was booked.
	Book(ctx context.Context, key, address string) (parcel string, err error)
	// Cancel cancels what was booked under the key. It succeeds if nothing was booked.
	Cancel(ctx context.Context, key string) error
}

// ErrRefused is returned for a parcel that the carrier does not take.
var ErrRefused = errors.New("carrier refuses the parcel")

// SimulatedCarrier takes every parcel but one to an address that contains the
// word "undeliverable". It has no state: a parcel's id is derived from its key.
type SimulatedCarrier struct{}

// Book implements Carrier.
func (SimulatedCarrier) Book(_ context.Context, key, address string) (string, error) {
	if strings.Contains(strings.ToLower(address), "undeliverable") {
		return "", ErrRefused
	}
	return "parcel_" + key, nil
}

// Cancel implements Carrier.
func (SimulatedCarrier) Cancel(context.Context, string) error { return nil }
