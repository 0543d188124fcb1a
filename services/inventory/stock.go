package inventory

import (
	"cmp"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// stock is the state of the warehouse after the events folded so far. It contains
// only open orders: an order that is concluded and closed is removed.
type stock struct {
	available map[string]int // units per SKU, never below zero
	orders    map[string]*order
}

// order is an open order: it may still need a decision.
type order struct {
	items     []event.Item
	reserved  bool
	cancelled bool          // by fulfillment
	asked     uint64        // the sequence of the message that requests a decision; 0 once it is made
	todo      jetstream.Msg // that message, if this term has read it
}

func newStock() *stock {
	return &stock{available: map[string]int{}, orders: map[string]*order{}}
}

// clone returns a copy that later events do not change.
func (s *stock) clone() *stock {
	c := &stock{available: maps.Clone(s.available), orders: make(map[string]*order, len(s.orders))}
	for id, o := range s.orders {
		copied := *o // nothing changes its items
		c.orders[id] = &copied
	}
	return c
}

// apply folds one event, from the stream or just published, into the state. A
// published event comes again from the stream: applying a decision twice changes
// nothing.
func (s *stock) apply(e event.Event) error {
	switch e.Type {
	case event.StockAdded:
		added, err := event.Decode[event.Stock](e)
		if err != nil {
			return err
		}
		s.available[added.SKU] += added.Quantity
	case event.OrderCreated:
		created, err := event.Decode[event.Created](e)
		if err != nil {
			return err
		}
		if s.orders[e.Key] == nil { // a second one, which no service publishes, must not change what is decided
			s.orders[e.Key] = &order{items: created.Items, asked: e.Sequence}
		}
	default:
		o := s.orders[e.Key]
		if o == nil {
			return nil // closed already, or not an event of an order
		}
		s.advance(e, o)
	}
	return nil
}

// advance applies an event to its open order.
func (s *stock) advance(e event.Event, o *order) {
	switch e.Type {
	case event.InventoryReserved:
		s.reserve(o)
	case event.InventoryReleased:
		s.release(e.Key, o)
	case event.FulfillmentCancelled:
		o.cancelled, o.asked, o.todo = true, e.Sequence, nil
	case event.InventoryRejected, event.FulfillmentShipped:
		delete(s.orders, e.Key) // nothing was reserved; the reserved units were shipped
	}
}

// undecided lists the orders that wait for a decision, in stream order.
func (s *stock) undecided() []string {
	var ids []string
	for id, o := range s.orders {
		if o.asked > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(s.orders[a].asked, s.orders[b].asked) })
	return ids
}

// suffices reports whether all items are in stock in full.
func (s *stock) suffices(items []event.Item) bool {
	need := map[string]int{}
	for _, i := range items {
		need[i.SKU] += i.Quantity
	}
	for sku, n := range need {
		if s.available[sku] < n {
			return false
		}
	}
	return true
}

func (s *stock) reserve(o *order) {
	if o.reserved {
		return
	}
	o.reserved = true
	if !o.cancelled { // otherwise the cancellation, which came meanwhile, still needs its decision
		o.asked, o.todo = 0, nil
	}
	for _, i := range o.items {
		s.available[i.SKU] -= i.Quantity
	}
}

func (s *stock) release(id string, o *order) {
	if o.reserved {
		for _, i := range o.items {
			s.available[i.SKU] += i.Quantity
		}
	}
	delete(s.orders, id)
}
