package orders

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/stream"
)

const (
	recentKept = 100    // orders in the list
	recentRead = 5000   // messages read back at a start
	openKept   = 10_000 // open orders; bounds the memory
)

// fold keeps what this replica knows of the stream: the recent orders, the open ones
// and counts. After a start it knows the newest messages only.
type fold struct {
	oldest func() time.Time // open orders that were created before do not count

	mu        sync.Mutex
	orders    map[string]*Order // the recent ones
	ids       []string          // of orders, oldest first
	open      map[string]openOrder
	applied   uint64 // the sequence of the last event
	counts    Counts
	countFrom uint64 // the first sequence that counts
	list      []byte // the recent orders as JSON; nil if an event came since
}

type openOrder struct {
	created time.Time
	client  string // that placed it here, or ""
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
	f := &fold{oldest: oldest}
	f.begin(0)
	return f
}

// follow keeps the fold up to date until ctx ends.
func (s *Shop) follow(ctx context.Context) error {
	for {
		extent, err := s.rt.Stream.AwaitExtent(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		s.fold.begin(extent.Last + 1)
		s.News.Reset()
		from := extent.Start()
		from.Sequence = max(extent.Last, recentRead) - recentRead
		err = s.rt.Stream.Follow(ctx, event.OrderSubjects, from, func(m jetstream.Msg) error {
			if e, err := stream.EventOf(m); err == nil {
				s.fold.apply(e)
				s.News.Notify(e.Key, e.Sequence)
			}
			return nil
		})
		if !errors.Is(err, stream.ErrReplaced) {
			return err
		}
	}
}

// begin drops what is known, because the stream may be another one than before.
func (f *fold) begin(countFrom uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders, f.ids, f.open = map[string]*Order{}, nil, map[string]openOrder{}
	f.applied, f.countFrom, f.counts, f.list = 0, countFrom, Counts{Since: time.Now().UTC()}, nil
}

func (f *fold) apply(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied, f.list = e.Sequence, nil
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
		f.open[e.Key] = openOrder{e.Time, f.open[e.Key].client}
	}
	f.orders[e.Key] = &created
	f.ids = append(f.ids, e.Key)
	if len(f.ids) > recentKept {
		delete(f.orders, f.ids[0])
		f.ids = slices.Delete(f.ids, 0, 1)
	}
}

// placed records the client of an order that this replica has placed.
func (f *fold) placed(ctx context.Context, created event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, open := f.open[created.Key]; open || created.Sequence > f.applied { // else it is concluded
		client, _ := ctx.Value(clientKey{}).(string)
		f.open[created.Key] = openOrder{created.Time, client}
	}
}

// openOrders returns the number of open orders, and how many of them a client has placed.
func (f *fold) openOrders(client string) (all, own int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := f.oldest()
	for id, o := range f.open {
		switch {
		case o.created.Before(oldest):
			delete(f.open, id)
		case o.client == client:
			own++
		}
	}
	return len(f.open), own
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
	open, _ := s.fold.openOrders("")
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
	s.fold.mu.Lock()
	defer s.fold.mu.Unlock()
	return s.fold.recent(n, since), s.fold.applied
}

// recent does the work of Recent. The caller holds mu.
func (f *fold) recent(n int, since uint64) []Order {
	list := []Order{}
	for _, id := range slices.Backward(f.ids[max(len(f.ids)-n, 0):]) {
		if f.last(id) > since {
			o := *f.orders[id]
			o.Events = slices.Clone(o.Events)
			list = append(list, o)
		}
	}
	return list
}

// recentJSON returns the recent orders as GET /orders shows them. Requests share the
// text, because clients that read slowly hold it for long.
func (f *fold) recentJSON() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.list == nil {
		f.list = respond.Encode(map[string]any{"orders": f.recent(recentKept, 0)})
	}
	return f.list
}
