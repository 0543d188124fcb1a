package orders

import (
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
)

// The set of open orders has a bound, and shipped orders leave it.
func TestOpenOrdersAreBounded(t *testing.T) {
	t.Parallel()
	f := newFold(func() time.Time { return time.Time{} })
	open := func() int { all, _ := f.openOrders(""); return all }
	var ids []string
	for range openKept + 1 {
		id := event.NewOrderID()
		ids = append(ids, id)
		e := event.Event{Type: event.OrderCreated, Key: id, Data: []byte(`{"order_id":"` + id + `","items":[{"sku":"COMPASS","quantity":1}]}`)}
		f.apply(e)
		f.apply(e) // a forged repetition
	}
	if got := open(); got != openKept {
		t.Errorf("%d orders are open, want %d", got, openKept)
	}
	for i, id := range ids[:openKept] {
		if want := openKept - i; i%1000 == 0 && open() != want {
			t.Fatalf("%d orders are open, want %d", open(), want)
		}
		f.apply(event.Event{Type: event.FulfillmentShipped, Key: id})
	}
	if got := open(); got != 0 {
		t.Errorf("%d orders are open, want none", got)
	}
}
