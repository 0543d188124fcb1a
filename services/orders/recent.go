package orders

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

const (
	recentKept = 100  // orders in the list
	recentRead = 5000 // messages read back at a start, for it and for the backlog
)

// listed is what the list, the backlog and the feeds are made from: all that
// happens to orders.
var listed = []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}

// recent is the list of the newest orders, folded from the stream.
type recent struct {
	mu      sync.Mutex
	orders  map[string]*Order
	ids     []string // oldest first
	applied uint64   // the sequence of the last event
	counts  counts
	from    uint64 // the first sequence that counts
}

// counts is what this replica has seen happen since it started.
type counts struct {
	Since     time.Time `json:"since"`
	Placed    int64     `json:"placed"`
	Shipped   int64     `json:"shipped"`
	Cancelled int64     `json:"cancelled"`
	Open      int       `json:"open"` // now: placed at any time, and not concluded
}

func newRecent() *recent {
	return &recent{orders: map[string]*Order{}, counts: counts{Since: time.Now().UTC()}}
}

// follow keeps the list, the backlog and the feeds up to date until ctx ends.
func (o *orders) follow(ctx context.Context) error {
	from := uint64(1)
	if s, err := o.Stream.JetStream().Stream(ctx, stream.OrdersStream); err == nil {
		last := s.CachedInfo().State.LastSeq
		o.recent.countFrom(last + 1)
		if last > recentRead {
			from = last - recentRead
		}
	}
	return o.Stream.Follow(ctx, listed, from, func(m jetstream.Msg) error {
		if e, err := stream.EventOf(m); err == nil {
			o.backlog.apply(e)
			o.recent.apply(e)
			o.watchers.tell(e)
		}
		return nil
	})
}

func (r *recent) countFrom(sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = sequence
}

func (r *recent) apply(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = e.Sequence
	if e.Type == event.OrderCreated {
		created := fold([]event.Event{e})
		if created.ID == "" {
			return // none of the services published it
		}
		r.count(e)
		r.orders[e.Key] = &created
		r.ids = append(r.ids, e.Key)
		if len(r.ids) > recentKept {
			delete(r.orders, r.ids[0])
			r.ids = slices.Delete(r.ids, 0, 1)
		}
		return
	}
	r.count(e)
	if o := r.orders[e.Key]; o != nil {
		o.apply(e)
	}
}

func (r *recent) count(e event.Event) {
	if e.Sequence < r.from {
		return
	}
	switch e.Type {
	case event.OrderCreated:
		r.counts.Placed++
	case event.FulfillmentShipped:
		r.counts.Shipped++
	case event.FulfillmentCancelled:
		r.counts.Cancelled++
	}
}

// newest returns the list, newest first.
func (r *recent) newest() []Order {
	list, _ := r.changed(0, recentKept)
	return list
}

// changed returns those of the newest orders, up to a number, that have an event
// after the sequence since, newest first, and the sequence that this is good for.
func (r *recent) changed(since uint64, most int) (list []Order, applied uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list = make([]Order, 0, min(len(r.ids), most))
	for i, id := range slices.Backward(r.ids) {
		if len(r.ids)-i > most {
			break
		}
		o := *r.orders[id]
		if o.Events[len(o.Events)-1].Sequence <= since {
			continue
		}
		o.Events = slices.Clone(o.Events)
		list = append(list, o)
	}
	return list, r.applied
}

// last is the sequence of an order's last event, 0 if the order is none of the
// newest.
func (r *recent) last(id string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.orders[id]; o != nil {
		return o.Events[len(o.Events)-1].Sequence
	}
	return 0
}

// list answers GET /orders.
func (o *orders) list(w http.ResponseWriter, _ *http.Request) {
	o.answer(w, http.StatusOK, map[string]any{"orders": o.recent.newest()})
}

// counted returns the counts as they are now.
func (o *orders) counted() counts {
	o.recent.mu.Lock()
	c := o.recent.counts
	o.recent.mu.Unlock()
	c.Open = o.backlog.size()
	return c
}
