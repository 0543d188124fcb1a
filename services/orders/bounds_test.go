package orders_test

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// wantTurnedAway fails the test if a request is not rejected with a Retry-After.
func wantTurnedAway(tb testing.TB, a shoptest.Answer, status int, says string) {
	tb.Helper()
	a.WantProblem(tb, status, says, "Retry-After")
	if got, want := a.Header.Get("Retry-After"), "1"; got != want {
		tb.Errorf("Retry-After = %q, want %q", got, want)
	}
}

// At the bound of open orders, all replicas reject new ones. When orders are concluded,
// they accept as many again.
func TestBacklog(t *testing.T) {
	t.Parallel()
	connect := systemtest.Server(t).Connect
	wire := orders.Wire(many, 3, time.Now)
	s, replica := shoptest.Open(t, connect, wire), shoptest.Open(t, connect, wire)
	wantFull := func() {
		t.Helper()
		for _, s := range []*shoptest.Shop{s, replica} {
			wantTurnedAway(t, s.MustPost(t, shoptest.Body(nil)), http.StatusTooManyRequests, "too many orders")
			wantTurnedAway(t, s.MustPost(t, "not read", "Idempotency-Key", ""), http.StatusTooManyRequests, "too many orders")
		}
	}
	MustForge(t, s, "null") // no order
	s.MustPublish(t, event.FulfillmentShipped, conclusion(event.NewOrderID(), ""))
	var placed []orders.Order
	for range 3 {
		placed = append(placed, s.MustPlace(t))
	}
	for _, s := range []*shoptest.Shop{s, replica} {
		s.AwaitListed(t, placed[2].ID)
	}
	last := s.MustLast(t)
	wantFull()
	if got := s.MustLast(t); got != last {
		t.Errorf("the stream ends at %d, want %d: something was stored", got, last)
	}
	s.MustDo(t, http.MethodGet, "/orders/"+placed[0].ID, "", nil).WantStatus(t, http.StatusOK)
	s.MustDo(t, http.MethodDelete, "/orders/"+placed[0].ID, "", nil).WantStatus(t, http.StatusAccepted)
	wantFull() // cancelling is not concluded

	s.MustPublish(t, event.FulfillmentCancelled, conclusion(placed[0].ID, event.ReasonCustomer))
	s.MustPublish(t, event.FulfillmentShipped, conclusion(placed[1].ID, ""))
	var again shoptest.Answer
	systemtest.Until(t, "an order is taken again", func() bool {
		again = replica.MustPost(t, shoptest.Body(nil))
		return again.StatusCode == http.StatusAccepted
	})
	s.AwaitListed(t, again.MustOrder(t).ID)
	again = s.MustPost(t, shoptest.Body(nil))
	again.WantStatus(t, http.StatusAccepted)
	for _, s := range []*shoptest.Shop{s, replica} {
		s.AwaitListed(t, again.MustOrder(t).ID)
	}
	wantFull()
}

// An order that is never concluded does not keep the shop closed for ever.
func TestBacklogForgets(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	s := shoptest.Open(t, systemtest.Server(t).Connect, orders.Wire(many, 1, now))
	s.AwaitListed(t, s.MustPlace(t).ID)
	for _, wait := range []time.Duration{0, service.DefaultOrderDeadline, 5 * time.Minute} {
		later.Add(int64(wait))
		s.MustPost(t, shoptest.Body(nil)).WantStatus(t, http.StatusTooManyRequests)
	}
	later.Add(int64(5 * time.Minute))
	s.AwaitListed(t, s.MustPlace(t).ID)
	s.MustPost(t, shoptest.Body(nil)).WantStatus(t, http.StatusAccepted) // by this clock both are old
}

// At the bound of requests that change something, more of them are rejected at once;
// requests that read are not.
func TestRequestsUnderWay(t *testing.T) {
	t.Parallel()
	const bound = 2
	s := shoptest.Open(t, systemtest.Server(t).Connect, orders.Wire(bound, many, time.Now))
	// These send their bodies after 100 Continue, which the server sends when the service
	// reads them.
	polite := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: systemtest.Patience}}
	defer polite.CloseIdleConnections()
	var under sync.WaitGroup
	statuses, errs, bodies := make([]int, bound), make([]error, bound), make([]*io.PipeWriter, bound)
	first, rest := shoptest.Body(nil)[:1], shoptest.Body(nil)[1:]
	for i := range bound {
		r, err := http.NewRequest(http.MethodPost, s.URL+"/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = shoptest.JSON("Expect", "100-continue")
		r.Body, bodies[i] = io.Pipe()
		r.ContentLength = int64(len(first + rest))
		under.Go(func() {
			answer, err := polite.Do(r)
			if errs[i] = err; err == nil {
				statuses[i] = answer.StatusCode
				_ = answer.Body.Close()
			}
		})
		if _, err := io.WriteString(bodies[i], first); err != nil {
			t.Fatal(err)
		}
	}
	const path = "/orders/" + shoptest.Unknown
	wantTurnedAway(t, s.MustDo(t, http.MethodDelete, path, "", nil), http.StatusServiceUnavailable, "too many requests")
	wantTurnedAway(t, s.MustPost(t, shoptest.Body(nil)), http.StatusServiceUnavailable, "too many requests")
	wantTurnedAway(t, s.MustPost(t, "not read"), http.StatusServiceUnavailable, "too many requests")
	s.MustDo(t, http.MethodGet, path, "", nil).WantStatus(t, http.StatusNotFound)
	s.MustDo(t, http.MethodGet, "/orders", "", nil).WantStatus(t, http.StatusOK)
	if got := s.MustLast(t); got != 0 {
		t.Errorf("the stream ends at %d: something was stored", got)
	}

	for _, b := range bodies {
		if _, err := io.WriteString(b, rest); err != nil {
			t.Fatal(err)
		}
	}
	under.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, got := range statuses {
		if got != http.StatusAccepted {
			t.Errorf("a request under way was answered with %d, want %d", got, http.StatusAccepted)
		}
	}
	systemtest.Until(t, "there is room again", func() bool {
		return s.MustDo(t, http.MethodDelete, path, "", nil).StatusCode == http.StatusNotFound
	})
	s.MustPlace(t)
}
