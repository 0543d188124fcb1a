package orders

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/stream"
)

const (
	recentKept  = 100    // orders in the list
	recentRead  = 5000   // messages read back at a start
	openKept    = 10_000 // open orders; bounds the memory
	maxWatchers = 512    // at a time
)

// folded are the events of orders.
var folded = []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}

// fold keeps what this replica knows of the stream: the recent orders, the open ones,
// counts, and the watchers to notify. After a start it knows the newest messages only.
type fold struct {
	oldest func() time.Time // open orders that were created before do not count

	mu        sync.Mutex
	orders    map[string]*Order // the recent ones
	ids       []string          // of orders, oldest first
	open      map[string]time.Time
	applied   uint64 // the sequence of the last event
	counts    Counts
	countFrom uint64 // the first sequence that counts
	watchers  map[string]map[*Watcher]struct{}
	watching  int
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
		oldest: oldest, orders: map[string]*Order{}, open: map[string]time.Time{}, watchers: map[string]map[*Watcher]struct{}{},
		counts: Counts{Since: time.Now().UTC()},
	}
}

// follow keeps the fold up to date until ctx ends.
func (s *Shop) follow(ctx context.Context) error {
	from := uint64(1)
	if in, err := s.rt.Stream.JetStream().Stream(ctx, stream.OrdersStream); err == nil {
		last := in.CachedInfo().State.LastSeq
		s.fold.startCounting(last + 1)
		if last > recentRead {
			from = last - recentRead
		}
	}
	return s.rt.Stream.Follow(ctx, folded, from, func(m jetstream.Msg) error {
		if e, err := stream.EventOf(m); err == nil {
			s.fold.apply(e)
		}
		return nil
	})
}

func (f *fold) startCounting(sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.countFrom = sequence
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
	f.notify(e)
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

// Watcher waits for events of one order, or of all.
type Watcher struct {
	// News receives a value when there are events. One value stands for any number, so
	// that nothing piles up for a slow reader.
	News <-chan struct{}

	news chan struct{}
	fold *fold
	id   string
	upTo uint64 // guarded by fold.mu
}

// Watch returns a watcher of an order, or of all orders if id is empty. Close it. A
// caller that reads after Watch returned misses no event.
func (s *Shop) Watch(id string) (*Watcher, error) {
	f := s.fold
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watching == maxWatchers {
		return nil, &respond.Error{Status: http.StatusServiceUnavailable, Retry: true,
			Detail: "too many readers follow orders already: try again after the time that Retry-After says"}
	}
	f.watching++
	news := make(chan struct{}, 1)
	w := &Watcher{News: news, news: news, fold: f, id: id, upTo: f.last(id)}
	if f.watchers[id] == nil {
		f.watchers[id] = map[*Watcher]struct{}{}
	}
	f.watchers[id][w] = struct{}{}
	return w, nil
}

// UpTo returns the sequence of the newest event, 0 if none is known.
func (w *Watcher) UpTo() uint64 {
	w.fold.mu.Lock()
	defer w.fold.mu.Unlock()
	return w.upTo
}

// Close ends the watch.
func (w *Watcher) Close() {
	f := w.fold
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watching--
	if delete(f.watchers[w.id], w); len(f.watchers[w.id]) == 0 {
		delete(f.watchers, w.id)
	}
}

// notify notifies the watchers of an event's order, and those of all orders.
func (f *fold) notify(e event.Event) {
	for _, id := range []string{"", e.Key} {
		for w := range f.watchers[id] {
			w.upTo = e.Sequence
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}
}
