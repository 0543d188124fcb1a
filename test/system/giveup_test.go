package system_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// A deciding event becomes a dead letter while its first handler is about to publish that
// the parcel is shipped. Whichever is stored first, the parcel agrees with the order.
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
	world := systemtest.NewWorld()
	booked, undo := make(chan struct{}), sync.Once{}
	world.Before = func(_ context.Context, effect, order string) error {
		if effect == "book" && world.Bookings(order) > 0 {
			return errors.New("the carrier is away")
		}
		return nil
	}
	world.Did = func(_ context.Context, effect, _ string) error {
		switch effect {
		case "book":
			network.Client(fulfillment.Name, 0).Pause() // the first handler cannot publish
			close(booked)
		case "unbook":
			undo.Do(func() {
				network.Client(fulfillment.Name, 0).Resume()
				systemtest.Until(t, "the order is concluded", concluded)
			})
		}
		return nil
	}
	sys = systemtest.StartOn(t, network.Connect, world.UseCarrier, func(cfg *systemtest.Config) { cfg.Topology.AckWait = time.Second })
	ctx := systemtest.Context(t)
	order, err := sys.Shop.Place(ctx, systemtest.Scenario(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	<-booked
	if _, err := sys.Run(ctx, fulfillment.Name); err != nil {
		t.Fatal(err)
	}
	systemtest.Settle(t, sys.JetStream(), 1)
	if order, err = sys.Shop.Get(ctx, order.ID); err != nil {
		t.Fatal(err)
	}
	if shipped := order.State == orders.StateShipped; shipped != world.Parcel(order.ID) {
		t.Errorf("the order is %s (%s), and its parcel booked: %t", order.State, order.Reason, world.Parcel(order.ID))
	}
	if order.State == orders.StateCancelled && order.Reason != event.ReasonUndeliverable {
		t.Errorf("cancelled because of %s", order.Reason)
	}
}
