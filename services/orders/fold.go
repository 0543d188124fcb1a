package orders

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

const (
	recentKept = 100    // orders in the list
	recentRead = 5000   // messages read back at a start
	openKept   = 10_000 // open orders; bounds the memory
)

// folded are the events of orders.
var folded = []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}

// fold keeps what this replica knows of the stream: the recent orders, the open ones
// and counts. After a start it knows the newest messages only.
type fold struct {
	oldest func() time.Time // open orders that were created before do not count

	mu        sync.Mutex
	orders    map[string]*Order    // the recent ones
	ids       []string             // of orders, oldest first
	open      map[string]time.Time // when an open order was created
	applied   uint64               // the sequence of the last event
	counts    Counts
	countFrom uint64 // the first sequence that counts
}

// Counts are numbers of orders, counted since this replica started.
type Counts struct {
	Since     time.Time `json:"since"`
	Placed    int64     `json:"placed"`
	Shipped   int64     `json:"shipped"`
	Cancelled int64     `json:"cancelled"`
	Open      int       `json:"open"` // now: placed at any time, and not concluded
}

func newFold(oldest func() time.Time) *fold {
	return &fold{
		oldest: oldest, orders: map[string]*Order{}, open: map[string]time.Time{}, counts: Counts{Since: time.Now().UTC()},
	}
}

// follow keeps the fold up to date until ctx ends.
func (s *Shop) follow(ctx context.Context) error {
	last, err := s.rt.Stream.LastSequence(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	s.fold.countFrom = last + 1
	from := max(last, recentRead) - recentRead + 1
	return s.rt.Stream.Follow(ctx, folded, from, func(m jetstream.Msg) error {
		if e, err := stream.EventOf(m); err == nil {
			s.fold.apply(e)
			s.News.Notify(e.Key, e.Sequence)
		}
		return nil
	})
}

func (f *fold) apply(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = e.Sequence
	if o := f.orders[e.Key]; o != nil {
		o.apply(e)
	} else if e.Type == event.OrderCreated {
		f.add(e)
	}
	counts := e.Sequence >= f.countFrom
	switch e.Type {
	case event.FulfillmentShipped:
		delete(f.open, e.Key)
		if counts {
			f.counts.Shipped++
		}
	case event.FulfillmentCancelled:
		delete(f.open, e.Key)
		if counts {
			f.counts.Cancelled++
		}
	}
}

// add adds a new order, unless none of the services published the event.
func (f *fold) add(e event.Event) {
	created := orderOf([]event.Event{e})
	if created.ID == "" {
		return
	}
	if e.Sequence >= f.countFrom {
		f.counts.Placed++
	}
	if len(f.open) < openKept {
		f.open[e.Key] = e.Time
	}
	f.orders[e.Key] = &created
	f.ids = append(f.ids, e.Key)
	if len(f.ids) > recentKept {
		delete(f.orders, f.ids[0])
		f.ids = slices.Delete(f.ids, 0, 1)
	}
}

// openOrders returns the number of open orders.
func (f *fold) openOrders() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := f.oldest()
	for id, created := range f.open {
		if created.Before(oldest) {
			delete(f.open, id)
		}
	}
	return len(f.open)
}

// last returns the sequence of an order's last event, 0 if the order is not recent.
// The caller holds mu.
func (f *fold) last(id string) uint64 {
	if o := f.orders[id]; o != nil {
		return o.Events[len(o.Events)-1].Sequence
	}
	return 0
}

// Last returns the sequence of the last event of an order that this replica knows, 0
// if the order is not recent.
func (s *Shop) Last(id string) uint64 {
	s.fold.mu.Lock()
	defer s.fold.mu.Unlock()
	return s.fold.last(id)
}

// Counts returns the counts as they are now.
func (s *Shop) Counts() Counts {
	open := s.fold.openOrders()
	s.fold.mu.Lock()
	defer s.fold.mu.Unlock()
	counts := s.fold.counts
	counts.Open = open
	return counts
}

// Recent returns those of the n newest orders that have an event after the sequence
// since, newest first, and the sequence of the last event that it includes. At most
// 100 orders are kept.
func (s *Shop) Recent(n int, since uint64) (list []Order, upTo uint64) {
	f := s.fold
	f.mu.Lock()
	defer f.mu.Unlock()
	list = []Order{}
	for _, id := range slices.Backward(f.ids[max(len(f.ids)-n, 0):]) {
		if f.last(id) > since {
			o := *f.orders[id]
			o.Events = slices.Clone(o.Events)
			list = append(list, o)
		}
	}
	return list, f.applied
}
