package orders_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/feed"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// A client gets the stored events, then new ones. A client that reconnects gets the
// events that it lacks, once.
func TestOrderFeed(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	s.MustPlace(t) // another one, which the feed does not show
	feed := shoptest.Follow(t, s.URL+"/orders/"+placed.ID+"/events", "")
	var got orders.Event
	id, _ := feed.Next(t, &got)
	if got.Type != event.OrderCreated || got.Sequence != id || got.SpanID != placed.Events[0].SpanID {
		t.Errorf("the first message has id %d and is %+v, want %+v", id, got, placed.Events[0])
	}
	s.MustDo(t, http.MethodDelete, "/orders/"+placed.ID, "", nil).WantStatus(t, http.StatusAccepted)
	if second, _ := feed.Next(t, &got); got.Type != event.OrderCancelled || second <= id {
		t.Errorf("then came %d %s, want orders.cancelled", second, got.Type)
	}
	feed.Leave()

	s.MustPublish(t, event.FulfillmentShipped, event.Conclusion{OrderKey: event.OrderKey{OrderID: placed.ID}})
	again := shoptest.Follow(t, s.URL+"/orders/"+placed.ID+"/events", strconv.FormatUint(got.Sequence, 10))
	if _, ok := again.Next(t, &got); !ok || got.Type != event.FulfillmentShipped {
		t.Errorf("after the last that was seen comes %s, want fulfillment.shipped", got.Type)
	}
}

func TestFeedRefusals(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	s.MustDo(t, http.MethodGet, "/orders/"+shoptest.Unknown+"/events", "", nil).WantProblem(t, http.StatusNotFound)
	s.MustDo(t, http.MethodGet, "/orders/nonsense/events", "", nil).WantProblem(t, http.StatusBadRequest, "nonsense")
	s.MustDo(t, http.MethodGet, "/orders/"+placed.ID+"/events", "", http.Header{"Last-Event-ID": {"-1"}}).WantProblem(t, http.StatusBadRequest, "Last-Event-ID")
	a := s.MustDo(t, http.MethodHead, "/orders/"+placed.ID+"/events", "", nil)
	a.WantStatus(t, http.StatusOK)
}

// The number of readers is bounded, also for one client, and a reader that leaves makes room.
func TestFeedBound(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	path := s.URL + "/orders/" + placed.ID + "/events"
	client := func(i int) string { return fmt.Sprintf("192.0.2.%d", i/feed.MaxWatchersPerClient) }
	readers := make([]*shoptest.Feed, feed.MaxWatchers)
	var opening sync.WaitGroup
	for i := range readers {
		if i == feed.MaxWatchersPerClient {
			opening.Wait()
			s.MustDo(t, http.MethodGet, "/orders/"+placed.ID+"/events", "", http.Header{shoptest.ClientHeader: {client(0)}}).
				WantProblem(t, http.StatusTooManyRequests, "this client follows orders too often")
		}
		opening.Go(func() {
			readers[i] = shoptest.FollowAs(t, client(i), path, "")
			var e orders.Event
			readers[i].Next(t, &e)
		})
	}
	opening.Wait()
	a := s.MustGet(t, "/orders/"+placed.ID+"/events")
	a.WantProblem(t, http.StatusServiceUnavailable, "too many readers")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	readers[0].Leave()
	systemtest.Until(t, "there is room again", func() bool {
		a := shoptest.FollowAs(t, client(0), path, "")
		defer a.Leave()
		return a.Answer.StatusCode == http.StatusOK
	})
}

// A server that stops does not wait for its readers. They reconnect to another one.
func TestFeedShutdown(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	placed := (shoptest.Of(sys)).MustPlace(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, listener, sys.Replica(orders.Name, 0).HTTP) }()
	var open []*shoptest.Feed
	for range 3 {
		f := shoptest.Follow(t, "http://"+listener.Addr().String()+"/orders/"+placed.ID+"/events", "")
		var e orders.Event
		f.Next(t, &e)
		open = append(open, f)
	}
	began := time.Now()
	end()
	if err := <-served; err != nil {
		t.Errorf("the server ended with: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	for _, f := range open {
		var e orders.Event
		for ok := true; ok; {
			_, ok = f.Next(t, &e)
		}
	}
}
