package system_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// Each service is killed once at each point between an effect and its ack. The redelivery
// to its successor changes nothing: the order has one of each event, and its money and
// parcel are correct.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		service  string
		after    string // the effect, or the event that was stored
		scenario string
	}{
		{payments.Name, "charge", "happy"},
		{payments.Name, string(event.PaymentConfirmed), "happy"},
		{payments.Name, string(event.PaymentDeclined), "declined"},
		{payments.Name, "refund", "undeliverable"},
		{payments.Name, string(event.PaymentRefunded), "undeliverable"},
		{inventory.Name, string(event.InventoryReserved), "happy"},
		{inventory.Name, string(event.InventoryRejected), "sold-out"},
		{inventory.Name, string(event.InventoryReleased), "undeliverable"},
		{fulfillment.Name, "book", "happy"},
		{fulfillment.Name, string(event.FulfillmentShipped), "happy"},
		{fulfillment.Name, string(event.FulfillmentCancelled), "declined"},
		{notify.Name, "mail", "happy"},
		{notify.Name, string(event.NotifyReceived), "happy"},
		{notify.Name, string(event.NotifyShipped), "happy"},
	} {
		t.Run(c.service+" after "+c.after, func(t *testing.T) {
			t.Parallel()
			world := systemtest.NewWorld()
			victim := make(chan *systemtest.System, 1)
			var killed atomic.Bool
			kill := func(point string) {
				if point == c.after && killed.CompareAndSwap(false, true) {
					sys := <-victim
					sys.Replica(c.service, 0).Kill()
				}
			}
			world.Did = func(_ context.Context, effect, _ string) error { kill(effect); return nil }
			sys := systemtest.Start(t, world.Use, quickRedelivery, onStore(c.service, func(e event.Type, _ string) { kill(string(e)) }))
			victim <- sys

			ctx := systemtest.Context(t)
			sc := systemtest.Scenario(t, c.scenario)
			placed, err := sys.Shop.Place(ctx, sc)
			if err != nil {
				t.Fatal(err)
			}
			systemtest.Until(t, c.service+" is killed", killed.Load)
			if _, err := sys.Run(ctx, c.service); err != nil {
				t.Fatal(err)
			}
			order, err := sys.Shop.Await(ctx, placed.ID, func(o orders.Order) bool { return sc.Want.Check(o) == nil })
			if err != nil {
				t.Fatalf("%v: %v", err, sc.Want.Check(order))
			}
			systemtest.Settle(t, sys.JetStream(), 1).Audit(t, world)
			for _, fact := range []event.Type{event.NotifyReceived, event.NotifyShipped, event.NotifyCancelled, event.NotifyRefunded} {
				want := 0
				if slices.Contains(sc.Want.Events, fact) {
					want = 1
				}
				// A mail that notify was sending when it died may be sent again; a mail that the
				// stream records is never sent again.
				again := c.service == notify.Name && string(fact) != c.after
				if got := world.Mails(fact, order.ID); got != want && !(again && want == 1 && got == 2) {
					t.Errorf("%s was sent %d times, want %d", fact, got, want)
				}
			}
		})
	}
}

// quickRedelivery has a killed replica's messages delivered again soon.
func quickRedelivery(cfg *systemtest.Config) {
	cfg.Topology.AckWait = 500 * time.Millisecond
	cfg.Topology.LeaseTTL = time.Second
}

// onStore calls f when a replica of the service has stored an event.
func onStore(name string, f func(event.Type, string)) func(*systemtest.Config) {
	return func(cfg *systemtest.Config) {
		cfg.Stream = func(service string) []stream.Option {
			if service != name {
				return nil
			}
			return []stream.Option{stream.OnStore(f)}
		}
	}
}
