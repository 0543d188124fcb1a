package system_test

import (
	"context"
	"sync"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// gate delays one effect until it is opened.
type gate struct {
	effect  string
	reached chan struct{}
	open    chan struct{}
	once    sync.Once
}

func newGate(effect string) *gate {
	return &gate{effect: effect, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) pass(_ context.Context, effect, _ string) error {
	if effect == g.effect {
		g.once.Do(func() { close(g.reached) })
		<-g.open
	}
	return nil
}

// Whichever comes first, payment, stock or cancellation, the order is concluded once, and
// money and stock are balanced.
func TestClosing(t *testing.T) {
	t.Parallel()
	type play struct {
		*testing.T
		sys  *systemtest.System
		gate *gate
		id   string
	}
	has := func(p play, e event.Type) {
		p.Helper()
		systemtest.Until(p.T, string(e), func() bool {
			_, ok := event.Find(systemtest.Read(p.T, p.sys.JetStream()).Orders[p.id], e)
			return ok
		})
	}
	cancel := func(p play) {
		p.Helper()
		if _, err := p.sys.Shop.Cancel(context.Background(), p.id); err != nil {
			p.Fatal(err)
		}
	}
	startInventory := func(p play) {
		if _, err := p.sys.Run(context.Background(), inventory.Name); err != nil {
			p.Fatal(err)
		}
	}
	byCustomer := func(refunded bool, payment, stock event.Type, more ...event.Type) demo.Want {
		return demo.Want{State: orders.StateCancelled, Reason: event.ReasonCustomer, Refunded: refunded, Events: append([]event.Type{
			event.OrderCreated, event.OrderCancelled, event.FulfillmentCancelled, event.NotifyReceived, event.NotifyCancelled, payment, stock,
		}, more...)}
	}
	for _, c := range []struct {
		name        string
		before, did string // the effect to hold up: before it is done, or when it is
		noInventory bool   // at first
		change      func(*demo.Scenario)
		play        func(play)
		want        demo.Want
	}{{
		name: "cancelled before both outcomes", before: "charge", noInventory: true,
		play: func(p play) {
			<-p.gate.reached
			cancel(p)
			has(p, event.PaymentDeclined) // closed, while the charge is held up
			close(p.gate.open)
			startInventory(p)
		},
		want: byCustomer(false, event.PaymentDeclined, event.InventoryRejected),
	}, {
		name: "cancelled between charge and confirmation", did: "charge",
		play: func(p play) {
			<-p.gate.reached
			has(p, event.InventoryReserved)
			cancel(p)
			has(p, event.PaymentDeclined)
			close(p.gate.open) // the confirmation comes too late: the charge is undone
		},
		want: byCustomer(false, event.PaymentDeclined, event.InventoryReserved, event.InventoryReleased),
	}, {
		name: "cancelled between payment and stock", noInventory: true,
		play: func(p play) {
			has(p, event.PaymentConfirmed)
			cancel(p)
			has(p, event.PaymentRefunded)
			startInventory(p)
		},
		want: byCustomer(true, event.PaymentConfirmed, event.InventoryRejected, event.PaymentRefunded, event.NotifyRefunded),
	}, {
		name: "cancelled after both outcomes", before: "book",
		play: func(p play) {
			<-p.gate.reached
			cancel(p) // taken, but too late
			close(p.gate.open)
		},
		want: demo.Want{State: orders.StateShipped, Events: []event.Type{
			event.OrderCreated, event.OrderCancelled, event.PaymentConfirmed, event.InventoryReserved,
			event.FulfillmentShipped, event.NotifyReceived, event.NotifyShipped,
		}},
	}, {
		name: "cancelled while the carrier refuses", before: "book",
		change: func(sc *demo.Scenario) { sc.Addr = "undeliverable" },
		play: func(p play) {
			<-p.gate.reached
			cancel(p)
			close(p.gate.open)
		},
		want: demo.Want{State: orders.StateCancelled, Reason: event.ReasonUndeliverable, Refunded: true, Events: []event.Type{
			event.OrderCreated, event.OrderCancelled, event.PaymentConfirmed, event.InventoryReserved,
			event.FulfillmentCancelled, event.PaymentRefunded, event.InventoryReleased,
			event.NotifyReceived, event.NotifyCancelled, event.NotifyRefunded,
		}},
	}, {
		name:   "declined and sold out",
		change: func(sc *demo.Scenario) { sc.Token, sc.SKUs = "tok_declined", []string{"COMPASS", "SOLD-OUT"} },
		play:   func(play) {},
		want: demo.Want{State: orders.StateCancelled, Reason: event.ReasonPaymentDeclined, Events: []event.Type{
			event.OrderCreated, event.PaymentDeclined, event.InventoryRejected, event.FulfillmentCancelled,
			event.NotifyReceived, event.NotifyCancelled,
		}},
	}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			world := systemtest.NewWorld()
			g := newGate(c.before + c.did)
			if c.before != "" {
				world.Before = g.pass
			} else {
				world.Did = g.pass
			}
			sys := systemtest.Start(t, world.Use)
			ctx, stop := context.WithTimeout(context.Background(), systemtest.Patience)
			defer stop()
			if c.noInventory {
				if err := sys.Replica(inventory.Name, 0).Stop(ctx); err != nil {
					t.Fatal(err)
				}
			}
			sc := scenarioNamed(t, "happy")
			if c.change != nil {
				c.change(&sc)
			}
			placed, err := sys.Shop.Place(ctx, sc)
			if err != nil {
				t.Fatal(err)
			}
			c.play(play{t, sys, g, placed.ID})
			systemtest.Settle(t, sys.JetStream(), 1).Audit(t, world)
			order, err := sys.Shop.Get(ctx, placed.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.want.Check(order); err != nil {
				t.Error(err)
			}
		})
	}
}
