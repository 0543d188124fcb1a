package orders

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"ordertrail/internal/event"
	"ordertrail/internal/stream"
)

const (
	recentKept = 100  // orders in the list
	recentRead = 5000 // messages read back at a start, for it and for the backlog
)

// listed is what both are folded from: what changes an order's state.
var listed = []string{"orders.*.*", "fulfillment.*.*", event.PaymentRefunded.Every()}

// recent is the list of the newest orders, folded from the stream.
type recent struct {
	mu     sync.Mutex
	orders map[string]*Order
	ids    []string // oldest first
}

func newRecent() *recent { return &recent{orders: map[string]*Order{}} }

// follow keeps the list and the backlog up to date until ctx ends.
func (o *orders) follow(ctx context.Context) error {
	from := uint64(1)
	if s, err := o.Stream.JetStream().Stream(ctx, stream.OrdersStream); err == nil {
		if last := s.CachedInfo().State.LastSeq; last > recentRead {
			from = last - recentRead
		}
	}
	return o.Stream.Follow(ctx, listed, from, func(m jetstream.Msg) error {
		if e, err := stream.EventOf(m); err == nil {
			o.backlog.apply(e)
			o.recent.apply(e)
		}
		return nil
	})
}

func (r *recent) apply(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Type == event.OrderCreated {
		created := fold([]event.Event{e})
		if created.ID == "" {
			return // none of the services published it
		}
		r.orders[e.Key] = &created
		r.ids = append(r.ids, e.Key)
		if len(r.ids) > recentKept {
			delete(r.orders, r.ids[0])
			r.ids = slices.Delete(r.ids, 0, 1)
		}
		return
	}
	if o := r.orders[e.Key]; o != nil {
		o.apply(e)
	}
}

// newest returns the list, newest first.
func (r *recent) newest() []Order {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Order, 0, len(r.ids))
	for _, id := range slices.Backward(r.ids) {
		o := *r.orders[id]
		o.Events = slices.Clone(o.Events)
		list = append(list, o)
	}
	return list
}

// list answers GET /orders.
func (o *orders) list(w http.ResponseWriter, _ *http.Request) {
	o.answer(w, http.StatusOK, map[string]any{"orders": o.recent.newest()})
}
