package orders_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
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

// Orders of a stream that was deleted are no longer open.
func TestBacklogOfReplacedStream(t *testing.T) {
	t.Parallel()
	s := shoptest.Open(t, systemtest.Server(t).Connect, orders.Wire(many, 2, time.Now))
	for range 2 {
		s.AwaitListed(t, s.MustPlace(t).ID)
	}
	s.MustPost(t, shoptest.Body(nil)).WantStatus(t, http.StatusTooManyRequests)
	if err := s.JetStream.DeleteStream(t.Context(), stream.OrdersStream); err != nil {
		t.Fatal(err)
	}
	if err := stream.Provision(t.Context(), s.JetStream, stream.Topology{Durables: app.Durables()}); err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the shop is open again", func() bool {
		return s.MustPost(t, shoptest.Body(nil)).StatusCode == http.StatusAccepted
	})
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

// At the bound of requests that change something, more of them are rejected at once.
func TestRequestsUnderWay(t *testing.T) {
	t.Parallel()
	const bound = 2
	entered, leave := make(chan struct{}), make(chan struct{})
	url := systemtest.Serve(t, orders.Guarded(bound, func(http.ResponseWriter, *http.Request) error {
		entered <- struct{}{}
		<-leave
		return nil
	}))
	post := func() shoptest.Answer {
		a, err := (&shoptest.Shop{URL: url, Client: http.DefaultClient}).Do(http.MethodPost, "/", "body", nil)
		if err != nil {
			t.Error(err)
		}
		return a
	}
	var under sync.WaitGroup
	for range bound {
		under.Go(func() { post().WantStatus(t, http.StatusOK) })
		<-entered
	}
	wantTurnedAway(t, post(), http.StatusServiceUnavailable, "too many requests")
	close(leave)
	under.Wait()
	under.Go(func() { <-entered })
	post().WantStatus(t, http.StatusOK)
	under.Wait()
}

// Requests whose bodies do not end keep no others out.
func TestUnfinishedBodies(t *testing.T) {
	t.Parallel()
	const bound = 2
	s := shoptest.Open(t, systemtest.Server(t).Connect, orders.Wire(bound, many, time.Now))
	for range bound + 1 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		// The server sends 100 Continue when the service reads the body.
		if _, err := io.WriteString(c, "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("answer %q, %v; want 100 Continue", line, err)
		}
		if _, err := io.WriteString(c, "{"); err != nil {
			t.Fatal(err)
		}
	}
	s.MustPlace(t)
}

// A client cannot have more than its share of the open orders; others can still order.
func TestBacklogOfOneClient(t *testing.T) {
	t.Parallel()
	s := shoptest.Open(t, systemtest.Server(t).Connect, orders.WirePerClient(3, 2))
	other := []string{shoptest.ClientHeader, "192.0.2.1"}
	first := s.MustPlace(t)
	s.MustPlace(t)
	wantTurnedAway(t, s.MustPost(t, shoptest.Body(nil)), http.StatusTooManyRequests, "of this client")
	s.MustPost(t, shoptest.Body(nil), other...).WantStatus(t, http.StatusAccepted)
	wantTurnedAway(t, s.MustPost(t, shoptest.Body(nil), other...), http.StatusTooManyRequests, "too many orders are open")

	s.MustPublish(t, event.FulfillmentShipped, conclusion(first.ID, ""))
	systemtest.Until(t, "the client can order again", func() bool {
		return s.MustPost(t, shoptest.Body(nil)).StatusCode == http.StatusAccepted
	})
}

// Requests with made-up ids of young orders neither wait nor read again and again, beyond a
// few at a time; those with ids of the future never do.
func TestMadeUpIDs(t *testing.T) {
	t.Parallel()
	server := systemtest.Server(t)
	s := shoptest.Open(t, server.Connect, orders.WireLookAgain(0))
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	reads := func(s *shoptest.Shop, method, id string) (n int) {
		t.Helper()
		sub, err := nc.SubscribeSync("$JS.API.DIRECT.GET." + stream.OrdersStream)
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		s.MustDo(t, method, "/orders/"+id, "", nil).WantProblem(t, http.StatusNotFound, "no such order")
		for {
			m, err := sub.NextMsg(100 * time.Millisecond)
			if err != nil {
				return n
			}
			if strings.Contains(string(m.Data), id) {
				n++
			}
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if n := reads(s, method, event.NewOrderID()); n != 1 {
			t.Errorf("%s of a young id at the bound reads %d times, want once", method, n)
		}
	}
	later := uuid.Must(uuid.NewV7())
	later[0]++ // by centuries
	if n := reads(shoptest.Open(t, server.Connect, orders.WireLookAgain(1)), http.MethodGet, later.String()); n != 1 {
		t.Errorf("GET of an id of the future reads %d times, want once", n)
	}
}
