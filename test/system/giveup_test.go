package system_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
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
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenarioNamed(t, "happy"))
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

// An effect may happen after its handler ran out of time, its event became a dead letter
// and its order was cancelled. That handler undoes it, since no other will.
func TestEffectAfterGivenUp(t *testing.T) {
	t.Parallel()
	for effect, left := range map[string]func(w *systemtest.World, order string) bool{
		"charge": func(w *systemtest.World, order string) bool { return w.Captured(order) != 0 },
		"book":   (*systemtest.World).Parcel,
	} {
		t.Run(effect, func(t *testing.T) {
			t.Parallel()
			world, happened, proceed := systemtest.NewWorld(), make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			world.Before = func(ctx context.Context, name, _ string) error {
				if name != effect {
					return nil
				}
				if calls.Add(1) > 1 {
					return errors.New("away")
				}
				<-ctx.Done()
				<-proceed
				return nil
			}
			world.Did = func(_ context.Context, name, _ string) error {
				if name == effect {
					close(happened) // once
				}
				return nil
			}
			sys := systemtest.Start(t, systemtest.Deadline(2*time.Second), world.Use, func(cfg *systemtest.Config) { cfg.Topology.AckWait = time.Second })
			ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
			defer cancel()
			order, err := sys.Shop.Place(ctx, scenarioNamed(t, "happy"))
			if err != nil {
				t.Fatal(err)
			}
			awaitDeadLetter(ctx, t, sys)
			systemtest.Until(t, "both sides are closed", func() bool {
				order, err = sys.Shop.Get(ctx, order.ID)
				closed := 0
				for _, e := range order.Events {
					switch e.Type {
					case event.PaymentDeclined, event.PaymentRefunded, event.InventoryReleased:
						closed++
					}
				}
				return err == nil && closed == 2
			})
			close(proceed)
			select {
			case <-happened:
			case <-ctx.Done():
				t.Fatal("the effect never came")
			}
			systemtest.Until(t, "the effect is undone", func() bool { return !left(world, order.ID) })
			systemtest.Settle(t, sys.JetStream(), 1)
		})
	}
}

// A charge whose answer is lost, at the event's last delivery, after its order was
// cancelled and closed, is refunded: no other handler will do it.
func TestLastChargeOfCancelledOrder(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	placed := make(chan string, 1)
	var sys *systemtest.System
	var charges atomic.Int64
	world.Before = func(_ context.Context, effect, _ string) error {
		if effect != "charge" {
			return nil
		}
		if charges.Add(1) < 5 {
			return errors.New("the gateway is busy")
		}
		id := <-placed
		if _, err := sys.Shop.Cancel(context.Background(), id); err != nil {
			t.Error(err)
		}
		systemtest.Until(t, "payment is closed", func() bool {
			_, ok := event.Find(systemtest.Read(t, sys.JetStream()).Orders[id], event.PaymentDeclined)
			return ok
		})
		return nil
	}
	world.Did = func(_ context.Context, effect, _ string) error {
		if effect == "charge" {
			return errors.New("the answer was lost")
		}
		return nil
	}
	sys = systemtest.Start(t, world.Use)
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenarioNamed(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	placed <- order.ID
	awaitDeadLetter(ctx, t, sys)
	systemtest.Settle(t, sys.JetStream(), 1)
	if got := world.Captured(order.ID); got != 0 {
		t.Errorf("%d were taken for a cancelled order, and not given back", got)
	}
}

// A refund that takes long is published as refunded.
func TestRefundTakesLong(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	world.Before = func(ctx context.Context, effect, _ string) error {
		if effect == "refund" {
			<-ctx.Done() // the caller stops waiting before the refund
		}
		return nil
	}
	sys := systemtest.Start(t, world.Use)
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenarioNamed(t, "sold-out"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "payment is closed, or the event a dead letter", func() bool {
		if letters, err := client.DeadLetters(ctx); err != nil || len(letters) > 0 {
			t.Fatalf("dead letters: %+v, %v", letters, err)
		}
		_, refunded := event.Find(systemtest.Read(t, sys.JetStream()).Orders[order.ID], event.PaymentRefunded)
		return refunded
	})
	if got := world.Captured(order.ID); got != 0 {
		t.Errorf("%d were not given back", got)
	}
}

// awaitDeadLetter waits until an event is a dead letter.
func awaitDeadLetter(ctx context.Context, t *testing.T, sys *systemtest.System) {
	t.Helper()
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the event is a dead letter", func() bool {
		letters, err := client.DeadLetters(ctx)
		return err == nil && len(letters) == 1
	})
}
