package orders

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
)

// bounds are the limits of the shop's load. It refuses what exceeds them at once,
// with a Retry-After: a request that waits costs memory, and an order that waits for
// longer than its deadline is cancelled.
type bounds struct {
	// underWay is the number of requests that change something and that this replica
	// handles at a time. A request counts once its body is complete, so that clients that
	// send slowly do not keep others out.
	underWay int
	// lookAgain is the number of requests that wait for a young order that is not found.
	lookAgain int
	// open is the number of orders that are not concluded. It is half of the number that
	// can be worked off before the default deadline cancels them if each card takes a
	// second (tok_slow): one replica of payments then charges 32 per second. At the full
	// number, steady demand would let every order wait for its deadline.
	//
	// It bounds the backlog, and is no exact limit. Every replica sees the orders of
	// all, so it holds for all together, but sees those of others a little later than
	// they are placed.
	open int
	// openPerClient is the number of orders that are not concluded and that one client,
	// see [service.ClientOf], has placed through this replica.
	openPerClient int
	// forgetAfter is the time past its deadline after which an order that is still not
	// concluded no longer counts. Something prevents its end permanently (a foreign
	// message in its place); the shop opens again nevertheless.
	forgetAfter time.Duration

	now func() time.Time
}

var defaultBounds = bounds{underWay: 512, lookAgain: 16, open: 500, openPerClient: 250, forgetAfter: 10 * time.Minute, now: time.Now}

// clientKey is the key of a context's client.
type clientKey struct{}

// UnlessFull refuses requests for new orders while there are too many open orders.
func (s *Shop) UnlessFull(h http.Handler) http.Handler {
	return respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		client := service.ClientOf(r)
		switch open, own := s.fold.openOrders(client); {
		case open >= s.bounds.open:
			return s.turnAway(http.StatusTooManyRequests, "too many orders are open: request rejected; repeat it after the time in Retry-After, with the same Idempotency-Key if you use one")
		case own >= s.bounds.openPerClient:
			return s.turnAway(http.StatusTooManyRequests, fmt.Sprintf("too many orders of this client are open, %d are allowed: request rejected; repeat it after the time in Retry-After, with the same Idempotency-Key if you use one", s.bounds.openPerClient))
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, client)))
		return nil
	})
}

// Guard protects a handler that changes something. It refuses requests that another
// site's page makes, bodies of more than [MaxBody] bytes, and requests beyond the bound on
// those under way. The handler gets the body at once.
func (s *Shop) Guard(h http.Handler) http.Handler {
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(respond.Handler(func(http.ResponseWriter, *http.Request) error {
		return respond.Errorf(http.StatusForbidden, "a page of another site made this request: only the shop's own pages and programs can place and cancel orders")
	}))
	return sameOrigin.Handler(respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
			w.Header().Set("Accept-Encoding", "identity")
			return respond.Errorf(http.StatusUnsupportedMediaType, "the Content-Encoding is %.50q: send the body as it is", coding)
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		if errors.As(err, new(*http.MaxBytesError)) {
			return respond.Errorf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", MaxBody)
		} else if err != nil {
			return respond.Errorf(http.StatusBadRequest, "the body could not be read")
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
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
