package systemtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// Ledger is the whole stream, read back: what was said about each order, in
// stream order, foreign messages left out.
type Ledger struct {
	Orders map[string][]event.Event
	Stock  []event.Event // what inventory said about stock
	Last   uint64
	done   func([]event.Event) error
}

// Read reads the stream as it is now.
func Read(t testing.TB, js jetstream.JetStream) Ledger {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	l := Ledger{Orders: map[string][]event.Event{}, done: Closed}
	var consumer jetstream.Consumer
	Until(t, "the stream can be read", func() bool {
		// A leader that steps down may never answer.
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream.OrdersStream)
		if err != nil {
			return false
		}
		l.Last = s.CachedInfo().State.LastSeq
		consumer, err = js.OrderedConsumer(ctx, stream.OrdersStream, jetstream.OrderedConsumerConfig{InactiveThreshold: 5 * time.Second})
		return err == nil
	})
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatalf("read the stream: %v", err)
	}
	defer messages.Stop()
	for at := uint64(0); at < l.Last; {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("read the stream, at %d of %d: %v", at, l.Last, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		at = meta.Sequence.Stream
		e, err := stream.EventOf(m)
		switch {
		case err != nil:
		case e.Type.Domain() == "stock":
			l.Stock = append(l.Stock, e)
		default:
			l.Orders[e.Key] = append(l.Orders[e.Key], e)
		}
	}
	return l
}

// Settle waits until nothing is left to do: every order is concluded and closed,
// and every consumer has acknowledged everything.
func Settle(t testing.TB, js jetstream.JetStream, orders int) Ledger {
	t.Helper()
	return SettleWhen(t, js, app.Durables(), orders, Closed)
}

// SettleWhen waits until each of so many orders is done, and these consumers are.
func SettleWhen(t testing.TB, js jetstream.JetStream, durables []stream.Durable, orders int, done func([]event.Event) error) Ledger {
	t.Helper()
	var ledger Ledger
	Until(t, fmt.Sprintf("%d orders are done, and every consumer is", orders), func() bool {
		for _, d := range durables {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			c, err := js.Consumer(ctx, d.Stream, d.Name)
			cancel()
			if err != nil {
				return false // a leader is being elected
			}
			if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
				return false
			}
		}
		if ledger.Last > 0 && !grown(js, ledger.Last) {
			return false // it is as it was
		}
		if ledger = Read(t, js); len(ledger.Orders) < orders {
			return false
		}
		for _, events := range ledger.Orders {
			if done(events) != nil {
				return false
			}
		}
		return true
	})
	ledger.done = done
	return ledger
}

// grown tells whether there is more in the stream than that.
func grown(js jetstream.JetStream, last uint64) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream.OrdersStream)
	return err == nil && s.CachedInfo().State.LastSeq > last
}

// Concluded says why an order is not concluded yet.
func Concluded(events []event.Event) error {
	_, shipped := event.Find(events, event.FulfillmentShipped)
	_, cancelled := event.Find(events, event.FulfillmentCancelled)
	if !shipped && !cancelled {
		return errors.New("is not concluded")
	}
	return nil
}

// Closed says what is still to come in an order's events, up to the mails about
// them.
func Closed(events []event.Event) error {
	if err := Concluded(events); err != nil {
		return err
	}
	has := map[event.Type]bool{}
	for _, e := range events {
		has[e.Type] = true
	}
	switch {
	case !has[event.NotifyReceived],
		has[event.FulfillmentShipped] && !has[event.NotifyShipped],
		has[event.FulfillmentCancelled] && !has[event.NotifyCancelled],
		has[event.PaymentRefunded] && !has[event.NotifyRefunded]:
		return errors.New("lacks a mail")
	case has[event.FulfillmentShipped]:
		return nil
	case !has[event.PaymentDeclined] && !has[event.PaymentRefunded]:
		return errors.New("is cancelled, and its payment is open")
	case !has[event.InventoryRejected] && !has[event.InventoryReleased]:
		return errors.New("is cancelled, and its reservation is open")
	}
	return nil
}

// Audit checks what must hold whatever went wrong on the way: one conclusion per
// order and the right one, money and parcels where they belong, and stock that
// adds up. world may be nil.
func (l Ledger) Audit(t testing.TB, world *World) {
	t.Helper()
	stock, added := map[string]int{}, map[string]int{}
	for _, e := range l.Stock {
		if s, err := event.Decode[event.Stock](e); e.Type == event.StockAdded && err == nil {
			stock[s.SKU] += s.Quantity
			added[s.SKU] += s.Quantity
		}
	}
	for id, events := range l.Orders {
		if err := auditOrder(id, events, world); err != nil {
			t.Errorf("order %s: %v\n%s", id, err, story(events))
		}
		if err := l.done(events); err != nil {
			t.Errorf("order %s %v\n%s", id, err, story(events))
		}
	}
	if len(l.Stock) == 0 {
		return // no inventory took part
	}
	// In stream order, over all orders: no unit is promised that is not there.
	for _, e := range l.inOrder() {
		sign := map[event.Type]int{event.InventoryReserved: -1, event.InventoryReleased: 1}[e.Type]
		if sign == 0 {
			continue
		}
		r, err := event.Decode[event.Reservation](e)
		if err != nil {
			t.Errorf("order %s: %v", e.Key, err)
		}
		for _, i := range r.Items {
			if stock[i.SKU] += sign * i.Quantity; stock[i.SKU] < 0 {
				t.Errorf("order %s: %s oversold at sequence %d", e.Key, i.SKU, e.Sequence)
			}
		}
	}
	for _, p := range catalog.Products() {
		shipped := 0
		for _, events := range l.Orders {
			if e, ok := event.Find(events, event.FulfillmentShipped); ok {
				if c, err := event.Decode[event.Conclusion](e); err == nil {
					for _, i := range c.Items {
						if i.SKU == p.SKU {
							shipped += i.Quantity
						}
					}
				}
			}
		}
		// What was reserved and not released is what was shipped.
		if left := stock[p.SKU]; left+shipped != added[p.SKU] {
			t.Errorf("%s: %d left and %d shipped of %d", p.SKU, left, shipped, added[p.SKU])
		}
	}
}

func (l Ledger) inOrder() []event.Event {
	all := make([]event.Event, l.Last+1)
	for _, events := range l.Orders {
		for _, e := range events {
			all[e.Sequence] = e
		}
	}
	return all
}

// auditOrder checks one order against the rule, worked out here once more and in
// another way than the service does.
func auditOrder(id string, events []event.Event, world *World) error {
	seen := map[event.Type]int{}
	var outcomes []event.Event
	decided := uint64(0)
	shipIt := false
	for _, e := range events {
		if seen[e.Type]++; seen[e.Type] > 1 {
			return fmt.Errorf("%s is there twice", e.Type)
		}
		switch e.Type {
		case event.PaymentConfirmed, event.PaymentDeclined, event.InventoryReserved, event.InventoryRejected:
			outcomes = append(outcomes, e)
		}
		if decided > 0 {
			continue
		}
		if e.Type == event.OrderCancelled {
			decided = e.Sequence
		}
		if len(outcomes) == 2 {
			decided = e.Sequence
			_, paid := event.Find(outcomes, event.PaymentConfirmed)
			_, there := event.Find(outcomes, event.InventoryReserved)
			shipIt = paid && there
		}
	}
	shipped, cancelled := seen[event.FulfillmentShipped], seen[event.FulfillmentCancelled]
	switch {
	case seen[event.OrderCreated] != 1:
		return fmt.Errorf("was never created")
	case seen[event.PaymentConfirmed]+seen[event.PaymentDeclined] > 1, seen[event.InventoryReserved]+seen[event.InventoryRejected] > 1:
		return fmt.Errorf("has two outcomes of one kind")
	case shipped+cancelled > 1:
		return fmt.Errorf("is concluded twice")
	case shipped == 1 && !shipIt:
		return fmt.Errorf("is shipped, and should not be")
	}
	if cancelled == 1 && shipIt {
		e, _ := event.Find(events, event.FulfillmentCancelled)
		if c, err := event.Decode[event.Conclusion](e); err != nil || c.Reason != event.ReasonUndeliverable {
			return fmt.Errorf("is cancelled, and should not be (%w)", err)
		}
	}
	if world == nil {
		return nil
	}
	created, err := event.Decode[event.Created](events[0])
	if err != nil {
		return err
	}
	owed := int64(0)
	if shipped == 1 {
		owed = created.Total.Amount
	}
	if got := world.Captured(id); world.money && got != owed {
		return fmt.Errorf("%d captured, %d owed", got, owed)
	}
	if got := world.Parcel(id); got != (shipped == 1) {
		return fmt.Errorf("parcel on its way: %t", got)
	}
	if shipped == 0 && !shipIt && world.Bookings(id) > 0 {
		return fmt.Errorf("a parcel was booked, and never should have been")
	}
	return nil
}

// story tells an order's events in a line each.
func story(events []event.Event) string {
	s := ""
	for _, e := range events {
		s += fmt.Sprintf("  %6d %s\n", e.Sequence, e.Type)
	}
	return s
}
