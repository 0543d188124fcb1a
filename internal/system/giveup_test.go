package system_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ordertrail/internal/event"
	runtime "ordertrail/internal/service"
	"ordertrail/internal/system"
	"ordertrail/internal/system/systemtest"
	"ordertrail/services/fulfillment"
	"ordertrail/services/orders"
)

// lateCarrier books once, for a replica that then can't say so for long; to
// everybody after it, it is not there.
type lateCarrier struct {
	calls  atomic.Int64
	booked atomic.Bool
	onBook func()
	// onCancel is called, once, when the parcel is taken back.
	onCancel func()
	once     sync.Once
}

func (c *lateCarrier) Book(context.Context, string, string) (string, error) {
	if c.calls.Add(1) > 1 {
		return "", errors.New("the carrier is away")
	}
	c.booked.Store(true)
	c.onBook()
	return "parcel", nil
}

func (c *lateCarrier) Cancel(context.Context, string) error {
	c.booked.Store(false)
	c.once.Do(c.onCancel)
	return nil
}

// A deciding event is given up while its first handler is still about to say that
// the parcel is on its way. Whichever is said first, the parcel is where the order
// says.
func TestGivenUpWhileBooked(t *testing.T) {
	t.Parallel()
	network := systemtest.NewNetwork(systemtest.Server(t).Connect)
	t.Cleanup(network.Close)
	var sys *systemtest.System
	concluded := func() bool {
		for _, events := range systemtest.Read(t, sys.JetStream()).Orders {
			if systemtest.Concluded(events) == nil {
				return true
			}
		}
		return false
	}
	carrier := &lateCarrier{
		onBook: func() { network.Client(fulfillment.Name, 0).Pause() },
		onCancel: func() {
			network.Client(fulfillment.Name, 0).Resume()
			systemtest.Until(t, "the order is concluded", concluded)
		},
	}
	sys = systemtest.StartOn(t, network.Connect, func(cfg *system.Config) {
		cfg.Topology.AckWait = time.Second
		cfg.Wire = map[string]runtime.Wire{fulfillment.Name: func(rt *runtime.Runtime) (runtime.Part, error) {
			return fulfillment.New(rt, carrier), nil
		}}
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenario(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "a parcel is booked", carrier.booked.Load)
	if _, err := sys.Run(ctx, fulfillment.Name); err != nil {
		t.Fatal(err)
	}
	systemtest.Settle(t, sys.JetStream(), 1)
	if order, err = sys.Shop.Get(ctx, order.ID); err != nil {
		t.Fatal(err)
	}
	if shipped := order.State == orders.StateShipped; shipped != carrier.booked.Load() {
		t.Errorf("the order is %s (%s), and its parcel booked: %t", order.State, order.Reason, carrier.booked.Load())
	}
	if order.State == orders.StateCancelled && order.Reason != event.ReasonUndeliverable {
		t.Errorf("cancelled because of %s", order.Reason)
	}
}
