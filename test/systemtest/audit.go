package systemtest

import (
	"fmt"
	"reflect"
	"testing"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/notify"
)

// Audit checks what must hold whatever failed before: each order has one conclusion
// and the right one, and money, parcels and stock agree with it. Without a world it
// checks no money and no parcels.
func (l Ledger) Audit(t testing.TB, world *World) {
	t.Helper()
	for id, events := range l.Orders {
		err := auditOrder(events)
		if err == nil && world != nil {
			err = world.audit(id, events)
		}
		if err == nil {
			err = l.done(events)
		}
		if err != nil {
			t.Errorf("order %s %v\n%s", id, err, story(events))
		}
	}
	if len(l.Stock) > 0 { // inventory took part
		l.auditStock(t)
	}
}

// auditStock checks, in stream order over all orders, that inventory never reserved a
// unit that it did not have, and that the units that were reserved and not released
// are those that were shipped.
func (l Ledger) auditStock(t testing.TB) {
	t.Helper()
	stock, added := map[string]int{}, map[string]int{}
	for _, e := range l.Stock {
		if s, err := event.Decode[event.Stock](e); e.Type == event.StockAdded && err == nil {
			stock[s.SKU] += s.Quantity
			added[s.SKU] += s.Quantity
		}
	}
	all := make([]event.Event, l.Last+1)
	for _, events := range l.Orders {
		for _, e := range events {
			all[e.Sequence] = e
		}
	}
	for _, e := range all {
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
	shipped := l.Recount().Units
	for _, p := range catalog.Products() {
		if left := stock[p.SKU]; left+shipped[p.SKU] != added[p.SKU] {
			t.Errorf("%s: %d left and %d shipped of %d", p.SKU, left, shipped[p.SKU], added[p.SKU])
		}
	}
}

// rule derives, independently of the service, whether an order has to be shipped: both
// outcomes are good, and the second precedes any cancellation.
func rule(events []event.Event) (ship bool) {
	outcomes, good := 0, 0
	for _, e := range events {
		switch e.Type {
		case event.OrderCancelled:
			return false
		case event.PaymentConfirmed, event.InventoryReserved:
			outcomes, good = outcomes+1, good+1
		case event.PaymentDeclined, event.InventoryRejected:
			outcomes++
		}
		if outcomes == 2 {
			return good == 2
		}
	}
	return false
}

func auditOrder(events []event.Event) error {
	seen := map[event.Type]int{}
	for _, e := range events {
		if seen[e.Type]++; seen[e.Type] > 1 {
			return fmt.Errorf("has two events %s", e.Type)
		}
	}
	ship := rule(events)
	switch {
	case seen[event.OrderCreated] != 1:
		return fmt.Errorf("was never created")
	case seen[event.PaymentConfirmed]+seen[event.PaymentDeclined] > 1, seen[event.InventoryReserved]+seen[event.InventoryRejected] > 1:
		return fmt.Errorf("has two outcomes of one kind")
	case seen[event.FulfillmentShipped]+seen[event.FulfillmentCancelled] > 1:
		return fmt.Errorf("is concluded twice")
	case seen[event.FulfillmentShipped] == 1 && !ship:
		return fmt.Errorf("is shipped, and should not be")
	}
	if e, cancelled := event.Find(events, event.FulfillmentCancelled); cancelled && ship {
		if c, err := event.Decode[event.Conclusion](e); err != nil || c.Reason != event.ReasonUndeliverable {
			return fmt.Errorf("is cancelled, and should not be (%w)", err)
		}
	}
	return nil
}

// audit checks the order's money, where it passes through this world, and its parcel.
func (w *World) audit(id string, events []event.Event) error {
	created, err := event.Decode[event.Created](events[0])
	if err != nil {
		return err
	}
	_, shipped := event.Find(events, event.FulfillmentShipped)
	owed := int64(0)
	if shipped {
		owed = created.Total.Amount
	}
	if got := w.Captured(id); w.money && got != owed {
		return fmt.Errorf("has %d captured, %d owed", got, owed)
	}
	if got := w.Parcel(id); got != shipped {
		return fmt.Errorf("has a parcel on its way: %t, is shipped: %t", got, shipped)
	}
	if !rule(events) && w.Bookings(id) > 0 {
		return fmt.Errorf("has a parcel booked that the rule forbids")
	}
	return nil
}

// AuditMails checks the mails that were sent, by Message-ID: each one that the stream
// records was sent, at most most times, and no other. cause is the event that called
// for the mail, fact the event that records it.
func (l Ledger) AuditMails(t testing.TB, sent map[string]int, most func(mail string, cause, fact event.Event) int) {
	t.Helper()
	recorded := map[string]bool{}
	for id, events := range l.Orders {
		for causeType, factType := range Letters {
			cause, _ := event.Find(events, causeType)
			fact, ok := event.Find(events, factType)
			if !ok {
				continue // Closed requires it
			}
			mail := notify.MessageID(factType, id)
			recorded[mail] = true
			if limit := most(mail, cause, fact); sent[mail] < 1 || sent[mail] > limit {
				t.Errorf("mail %s was sent %d times, want 1 to %d", mail, sent[mail], limit)
			}
		}
	}
	for mail := range sent {
		if !recorded[mail] {
			t.Errorf("mail %s was sent, and the stream does not record it", mail)
		}
	}
}

// Recount derives analytics' numbers from the ledger, order by order.
func (l Ledger) Recount() Analytics {
	a := Analytics{AsOf: l.LastOfOrder(), Revenue: event.Money{Currency: catalog.Currency}, Units: map[string]int{}}
	a.Orders.Created, a.Orders.Cancelled = l.Count(event.OrderCreated), l.Count(event.FulfillmentCancelled)
	for _, events := range l.Orders {
		if e, ok := event.Find(events, event.FulfillmentShipped); ok {
			a.Orders.Shipped++
			if c, err := event.Decode[event.Conclusion](e); err == nil {
				a.Revenue.Amount += c.Total.Amount
				for _, i := range c.Items {
					a.Units[i.SKU] += i.Quantity
				}
			}
		}
	}
	return a
}

// AuditAnalytics checks that the replica of analytics at a URL counts the same as
// Recount.
func (l Ledger) AuditAnalytics(t testing.TB, url string) {
	t.Helper()
	want := l.Recount()
	var got Analytics
	Until(t, "analytics has counted everything", func() bool {
		got = GetAnalytics(t, url)
		return got.AsOf >= want.AsOf
	})
	if got.AsOf = want.AsOf; !reflect.DeepEqual(got, want) {
		t.Errorf("analytics counts %+v, a recount %+v", got, want)
	}
}
