package orders

import (
	"container/list"
	"net/http"
	"sync"
	"time"

	"example.org/ordertrail/internal/event"
)

// bounds are how much the shop takes on. What is beyond them it refuses at once,
// and says when to come back: a request that waits costs memory, and an order that
// waits for longer than its deadline is cancelled.
type bounds struct {
	// underWay is how many requests that change something this replica has in hand
	// at a time, those included whose body is still on its way: at maxBody each,
	// 32 MiB.
	underWay int
	// open is how many orders there may be that are not concluded: half of what can be
	// worked off before the default deadline cancels them if each card takes a second
	// (tok_slow), for one replica of payments then charges 32 per second. At the full
	// number, steady demand would have every order wait for its deadline.
	//
	// It bounds the backlog, and is no exact limit. Every replica sees the orders of
	// all, so it holds for all together, but sees them a little later than they are
	// placed: requests that are under way at once can exceed it by their number.
	open int
	// forgetAfter is how long past its deadline an order counts that is still not
	// concluded. Something is in the way of its end, and will not go away (a foreign
	// message in its place); the shop opens again nevertheless.
	forgetAfter time.Duration
	// slowest is how long the reader of a feed may take for what was sent. Until then
	// one message waits for it, a hundred orders at most: it is told that there is news,
	// and none piles up.
	slowest time.Duration

	now func() time.Time
}

var defaultBounds = bounds{underWay: 512, open: 500, forgetAfter: 10 * time.Minute, slowest: 10 * time.Second, now: time.Now}

// backlogKept bounds the memory of a backlog, whoever writes to the stream.
const backlogKept = 10_000

// backlog is the set of open orders: created, and neither shipped nor cancelled.
// Like the list of recent orders it is folded from the stream, and after a start
// knows of those that the fold has read.
type backlog struct {
	limit  int
	oldest func() time.Time // when the oldest orders that count were created

	mu     sync.Mutex
	orders map[string]*list.Element
	queue  list.List // of opened, in stream order
}

type opened struct {
	id string
	at time.Time // by the stream's clock
}

func newBacklog(limit int, oldest func() time.Time) *backlog {
	return &backlog{limit: limit, oldest: oldest, orders: map[string]*list.Element{}}
}

func (b *backlog) apply(e event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Type {
	case event.OrderCreated:
		if _, err := event.Decode[event.Created](e); err != nil || b.orders[e.Key] != nil {
			return // none of the services published it
		}
		b.orders[e.Key] = b.queue.PushBack(opened{e.Key, e.Time})
		if b.queue.Len() > backlogKept {
			b.remove(b.queue.Front())
		}
	case event.FulfillmentShipped, event.FulfillmentCancelled:
		if o := b.orders[e.Key]; o != nil { // it may be from before the fold's beginning
			b.remove(o)
		}
	}
}

func (b *backlog) remove(o *list.Element) {
	delete(b.orders, b.queue.Remove(o).(opened).id)
}

// full tells whether there are as many open orders as there may be.
func (b *backlog) full() bool { return b.size() >= b.limit }

// size is how many open orders there are.
func (b *backlog) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for first := b.queue.Front(); first != nil && first.Value.(opened).at.Before(b.oldest()); first = b.queue.Front() {
		b.remove(first)
	}
	return b.queue.Len()
}

// retryAfter is when to come back, in seconds: by then a part of the backlog is
// worked off.
const retryAfter = "1"

// unlessFull refuses requests while there are too many open orders.
func (o *orders) unlessFull(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.backlog.full() {
			o.turnAway(w, http.StatusTooManyRequests, "too many orders are waiting to be handled: this request was not looked at, repeat it after the time that Retry-After says, with the same Idempotency-Key if you use one")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// atMost lets n requests in at a time, over all the handlers that it makes.
func (o *orders) atMost(n int) func(http.Handler) http.Handler {
	underWay := make(chan struct{}, n)
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case underWay <- struct{}{}:
				defer func() { <-underWay }()
				h.ServeHTTP(w, r)
			default:
				o.turnAway(w, http.StatusServiceUnavailable, "too many requests are under way: this one was not looked at, try again after the time that Retry-After says")
			}
		})
	}
}

// turnAway refuses a request before anything is done for it. Its body is not
// looked at; the HTTP server reads past it, so that the connection can be used again
// (to answer before that, with EnableFullDuplex, broke connections under load). It
// has no span: a flood of them would push those of orders out of the exporter's
// queue. The log tells of one in a thousand.
func (o *orders) turnAway(w http.ResponseWriter, status int, detail string) {
	if n := o.turnedAway.Add(1); n%1000 == 1 {
		o.Log.Warn("turning requests away", "status", status, "turned_away", n)
	}
	w.Header().Set("Retry-After", retryAfter)
	refuse(w, status, detail)
}
