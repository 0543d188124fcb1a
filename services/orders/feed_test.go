package orders_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// reader follows a feed.
type reader struct {
	answer *http.Response
	lines  *bufio.Scanner
	leave  context.CancelFunc
}

func follow(tb testing.TB, url, last string) *reader {
	tb.Helper()
	ctx, leave := context.WithTimeout(context.Background(), systemtest.Patience)
	tb.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = a.Body.Close() })
	if got := a.Header.Get("Content-Type"); a.StatusCode == http.StatusOK && got != "text/event-stream" {
		tb.Errorf("Content-Type = %q", got)
	}
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(nil, 1<<20) // a hundred orders are one line
	return &reader{a, lines, leave}
}

// next waits for the next message. It returns false when the feed has ended.
func (r *reader) next(tb testing.TB, data any) (id uint64, ok bool) {
	tb.Helper()
	for r.lines.Scan() {
		if text, found := strings.CutPrefix(r.lines.Text(), "id: "); found {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			id = n
		}
		if text, found := strings.CutPrefix(r.lines.Text(), "data: "); found {
			if err := json.Unmarshal([]byte(text), data); err != nil {
				tb.Fatalf("%v: %s", err, text)
			}
			return id, true
		}
	}
	return 0, false
}

// A reader gets what is there, then what comes; one that comes back gets what it
// lacks, once.
func TestOrderFeed(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	s.MustPlace(t) // another, of which nothing is to be seen
	feed := follow(t, s.url+"/orders/"+placed.ID+"/events", "")
	var got orders.Event
	id, _ := feed.next(t, &got)
	if got.Type != event.OrderCreated || got.Sequence != id || got.SpanID != placed.Events[0].SpanID {
		t.Errorf("the first message has id %d and is %+v, want %+v", id, got, placed.Events[0])
	}
	wantStatus(t, s.MustDo(t, http.MethodDelete, "/orders/"+placed.ID, "", nil), http.StatusAccepted)
	if second, _ := feed.next(t, &got); got.Type != event.OrderCancelled || second <= id {
		t.Errorf("then came %d %s, want orders.cancelled", second, got.Type)
	}
	feed.leave()

	s.MustPublish(t, event.FulfillmentShipped, event.Conclusion{OrderKey: event.OrderKey{OrderID: placed.ID}})
	again := follow(t, s.url+"/orders/"+placed.ID+"/events", strconv.FormatUint(got.Sequence, 10))
	if _, ok := again.next(t, &got); !ok || got.Type != event.FulfillmentShipped {
		t.Errorf("after the last that was seen comes %s, want fulfillment.shipped", got.Type)
	}
}

func TestFeedRefusals(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	wantProblem(t, s.MustDo(t, http.MethodGet, "/orders/"+unknown+"/events", "", nil), http.StatusNotFound)
	wantProblem(t, s.MustDo(t, http.MethodGet, "/orders/nonsense/events", "", nil), http.StatusBadRequest, "nonsense")
	wantProblem(t, s.MustDo(t, http.MethodGet, "/orders/"+placed.ID+"/events", "", http.Header{"Last-Event-ID": {"-1"}}), http.StatusBadRequest, "Last-Event-ID")
	a := s.MustDo(t, http.MethodHead, "/events", "", nil)
	wantStatus(t, a, http.StatusOK)
}

// The shop's feed says what has changed, and everything to who comes from another
// stream.
func TestShopFeed(t *testing.T) {
	t.Parallel()
	s := open(t)
	type change struct {
		Shop struct {
			Placed int64
			Open   int
		}
		Orders []orders.Order
	}
	placed := s.MustPlace(t)
	feed := follow(t, s.url+"/events", "")
	until := func(feed *reader, what string, ok func(change) bool) (id uint64, last change) {
		t.Helper()
		for {
			var c change
			id, there := feed.next(t, &c)
			if !there {
				t.Fatalf("the feed ended before %s", what)
			}
			if ok(c) {
				return id, c
			}
		}
	}
	id, _ := until(feed, "the first order", func(c change) bool {
		return len(c.Orders) == 1 && c.Orders[0].ID == placed.ID && c.Shop.Placed == 1 && c.Shop.Open == 1
	})
	second := s.MustPlace(t)
	_, c := until(feed, "the second order", func(c change) bool { return c.Shop.Placed == 2 })
	if len(c.Orders) != 1 || c.Orders[0].ID != second.ID {
		t.Errorf("%d orders have changed, want the second alone", len(c.Orders))
	}
	until(follow(t, s.url+"/events", strconv.FormatUint(id, 10)), "what came after the first", func(c change) bool {
		return len(c.Orders) == 1 && c.Orders[0].ID == second.ID
	})
	until(follow(t, s.url+"/events", "999999"), "everything", func(c change) bool { return len(c.Orders) == 2 })
}

// There are only so many readers, and who leaves makes room.
func TestFeedBound(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	path := s.url + "/orders/" + placed.ID + "/events"
	readers := make([]*reader, orders.MaxWatchers)
	var opening sync.WaitGroup
	for i := range readers {
		opening.Go(func() {
			readers[i] = follow(t, path, "")
			var e orders.Event
			readers[i].next(t, &e)
		})
	}
	opening.Wait()
	a := s.MustDo(t, http.MethodGet, "/events", "", nil)
	wantProblem(t, a, http.StatusServiceUnavailable, "too many readers")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	readers[0].leave()
	systemtest.Until(t, "there is room again", func() bool {
		a := follow(t, path, "")
		defer a.leave()
		return a.answer.StatusCode == http.StatusOK
	})
}

// A server that ends does not wait for its readers: they come back, to another.
func TestFeedShutdown(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	placed := (&shop{url: sys.URL, client: sys.Shop.Client}).MustPlace(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, listener, sys.Replica(orders.Name, 0).HTTP()) }()
	var open []*reader
	for range 3 {
		f := follow(t, "http://"+listener.Addr().String()+"/orders/"+placed.ID+"/events", "")
		var e orders.Event
		f.next(t, &e)
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
			_, ok = f.next(t, &e)
		}
	}
}
