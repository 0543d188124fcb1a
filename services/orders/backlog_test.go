package orders

import (
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
)

// However many orders there are, the set of open ones stays small, and the shop
// closed.
func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	b := newBacklog(1, func() time.Time { return time.Time{} })
	var ids []string
	for range backlogKept + 1 {
		id := event.NewOrderID()
		ids = append(ids, id)
		e := event.Event{Type: event.OrderCreated, Key: id, Data: []byte(`{"order_id":"` + id + `","items":[{"sku":"COMPASS","quantity":1}]}`)}
		b.apply(e)
		b.apply(e) // no second one, whoever forged it
	}
	if got, most := len(b.orders), backlogKept; got != most || b.queue.Len() != most {
		t.Errorf("%d orders are kept, %d in the queue, want %d", got, b.queue.Len(), most)
	}
	for i, id := range ids {
		if !b.full() {
			t.Fatalf("the backlog is not full when %d of %d orders are concluded", i, len(ids))
		}
		b.apply(event.Event{Type: event.FulfillmentShipped, Key: id})
	}
	if b.full() || len(b.orders) > 0 || b.queue.Len() > 0 {
		t.Errorf("%d orders are left, %d in the queue, want none", len(b.orders), b.queue.Len())
	}
}
