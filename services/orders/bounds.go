package orders

import (
	"net/http"
	"time"

	"example.org/ordertrail/internal/respond"
)

// bounds are the limits of the shop's load. It refuses what exceeds them at once,
// with a Retry-After: a request that waits costs memory, and an order that waits for
// longer than its deadline is cancelled.
type bounds struct {
	// underWay is the number of requests that change something and that this replica
	// handles at a time. Requests whose body is still arriving count: at maxBody each,
	// 32 MiB.
	underWay int
	// open is the number of orders that are not concluded. It is half of the number that
	// can be worked off before the default deadline cancels them if each card takes a
	// second (tok_slow): one replica of payments then charges 32 per second. At the full
	// number, steady demand would let every order wait for its deadline.
	//
	// It bounds the backlog, and is no exact limit. Every replica sees the orders of
	// all, so it holds for all together, but sees them a little later than they are
	// placed: requests that are under way at once can exceed it by their number.
	open int
	// forgetAfter is the time past its deadline after which an order that is still not
	// concluded does not count any more. Something prevents its end for good (a foreign
	// message in its place); the shop opens again nevertheless.
	forgetAfter time.Duration

	now func() time.Time
}

var defaultBounds = bounds{underWay: 512, open: 500, forgetAfter: 10 * time.Minute, now: time.Now}

// UnlessFull refuses requests for new orders while there are too many open orders.
func (s *Shop) UnlessFull(h http.Handler) http.Handler {
	return respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if s.fold.openOrders() >= s.bounds.open {
			return s.turnAway(http.StatusTooManyRequests, "too many orders are open: request rejected; repeat it after the time in Retry-After, with the same Idempotency-Key if you use one")
		}
		h.ServeHTTP(w, r)
		return nil
	})
}

// Guard protects a handler that changes something. It refuses requests that another
// site's page makes, and requests beyond the bound on those under way.
func (s *Shop) Guard(h http.Handler) http.Handler {
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(respond.Handler(func(http.ResponseWriter, *http.Request) error {
		return respond.Errorf(http.StatusForbidden, "a page of another site made this request: only the shop's own pages and programs can place and cancel orders")
	}))
	return sameOrigin.Handler(respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		select {
		case s.underWay <- struct{}{}:
			defer func() { <-s.underWay }()
			h.ServeHTTP(w, r)
			return nil
		default:
			return s.turnAway(http.StatusServiceUnavailable, "too many requests are under way: request rejected; repeat it after the time in Retry-After")
		}
	}))
}

// turnAway refuses a request before anything is done for it. The handler does not
// read the body; the HTTP server does, so that the connection can be used again (to
// answer before that, with EnableFullDuplex, broke connections under load). The
// request has no span: a flood of them would push those of orders out of the
// exporter's queue. The log has one of a thousand.
func (s *Shop) turnAway(status int, detail string) error {
	if n := s.turnedAway.Add(1); n%1000 == 1 {
		s.rt.Log.Warn("rejecting requests", "status", status, "rejected", n)
	}
	return &respond.Error{Status: status, Detail: detail, Retry: true}
}
