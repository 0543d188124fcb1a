package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ordertrail/internal/event"
	"ordertrail/internal/stream"
	"ordertrail/internal/system/systemtest"
)

// After a reconnect the next message is not applied before the one in hand, and
// none twice: a fold depends on it.
func TestFollowAcrossReconnect(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 20
	for range n {
		id := event.NewOrderID()
		b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var busy atomic.Int32
	var got []uint64
	err := b.Follow(ctx, []string{"orders.*.*"}, 1, func(m jetstream.Msg) error {
		if busy.Add(1) > 1 {
			return errors.New("two at a time")
		}
		defer busy.Add(-1)
		e, err := stream.EventOf(m)
		if err != nil {
			return err
		}
		if got = append(got, e.Sequence); len(got) == 3 {
			before := b.conn.Stats().Reconnects
			if err := b.conn.ForceReconnect(); err != nil {
				return err
			}
			systemtest.Until(t, "the connection is back", func() bool { return b.conn.Stats().Reconnects > before && b.conn.IsConnected() })
			<-time.After(300 * time.Millisecond) // room for the new subscription to deliver
		}
		if len(got) == n {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for i, sequence := range got {
		if sequence != uint64(i+1) {
			t.Fatalf("applied %v, want 1 to %d in order", got, n)
		}
	}
}

func TestFollowEndsWithItsError(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	want := errors.New("enough")
	if err := b.Follow(b.ctx, []string{"orders.*.*"}, 1, func(jetstream.Msg) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// Who is told to stop while NATS is away stops all the same, and soon.
func TestStopWhileAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running := map[string]func() error{
		"Consume": func() error {
			return b.Consume(ctx, durable, func(context.Context, event.Event) error { return nil })
		},
		"Follow": func() error {
			return b.Follow(ctx, []string{"orders.*.*"}, 1, func(jetstream.Msg) error { return nil })
		},
		"Lead": func() error {
			return b.Lead(ctx, "test", "me", func(ctx context.Context) error { <-ctx.Done(); return nil })
		},
	}
	ended := make(chan string, len(running))
	for name, run := range running {
		go func() {
			if err := run(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			ended <- name
		}()
	}
	info := func() bool {
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		return err == nil && c.CachedInfo().NumWaiting > 0
	}
	systemtest.Until(t, "the consumer is at work", info)
	b.server.Close()
	systemtest.Until(t, "the connection is lost", func() bool { return !b.conn.IsConnected() })
	cancel()
	deadline := time.After(8 * time.Second) // what a service has for its end
	for range running {
		select {
		case <-ended:
		case <-deadline:
			t.Fatal("not all have stopped")
		}
	}
}

func TestConsume(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	retried, foreign, good := event.NewOrderID(), event.NewOrderID(), event.NewOrderID()
	b.MustPublish(t, created(retried), stream.First(event.OrderCreated, retried))
	if _, err := b.JetStream().Publish(b.ctx, "orders.created."+foreign, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	b.MustPublish(t, created(good), stream.First(event.OrderCreated, good))

	ctx, cancel := context.WithCancel(b.ctx)
	var mu sync.Mutex
	deliveries := map[string][]uint64{}
	done := make(chan error, 1)
	go func() {
		done <- b.Consume(ctx, durable, func(_ context.Context, e event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			deliveries[e.Key] = append(deliveries[e.Key], e.Delivery)
			if e.Key == retried && e.Delivery < 3 {
				return errors.New("not yet")
			}
			return nil
		})
	}()
	systemtest.Until(t, "everything is settled", func() bool {
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		// What is pending is counted a bit later than it is stored.
		return err == nil && c.CachedInfo().AckFloor.Stream == 3 && c.CachedInfo().NumAckPending == 0
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(deliveries[retried], deliveries[good], deliveries[foreign]), "[1 2 3] [1] []"; got != want {
		t.Errorf("deliveries %s, want %s", got, want)
	}
}

// One leads at a time, a graceful end hands over at once, and the lease outlives
// its TTL many times while its holder renews it.
func TestLead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	second, _ := MustClient(t, b.server)
	var leading atomic.Int32
	terms := make(chan string, 10)
	lead := func(ctx context.Context, c *stream.Client, name string) error {
		return c.Lead(ctx, "test", name, func(ctx context.Context) error {
			if leading.Add(1) > 1 {
				t.Error("two lead at once")
			}
			defer leading.Add(-1)
			terms <- name
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}
	firstCtx, stopFirst := context.WithCancel(b.ctx)
	defer stopFirst()
	secondCtx, stopSecond := context.WithCancel(b.ctx)
	defer stopSecond()
	ended := make(chan error, 2)
	go func() { ended <- lead(firstCtx, b.Client, "first") }()
	if got := <-terms; got != "first" {
		t.Fatalf("%s leads", got)
	}
	go func() { ended <- lead(secondCtx, second, "second") }()
	select {
	case got := <-terms:
		t.Fatalf("%s leads while the first does", got)
	case <-time.After(2500 * time.Millisecond): // two and a half times the TTL
	}
	stopFirst()
	if got := <-terms; got != "second" {
		t.Fatalf("%s leads after the first has stopped", got)
	}

	// Someone takes the lease away: the term ends, and another begins.
	kv, err := b.JetStream().KeyValue(b.ctx, stream.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(b.ctx, "test", []byte("thief")); err != nil {
		t.Fatal(err)
	}
	if got := <-terms; got != "second" {
		t.Fatalf("%s leads after the thief's lease has expired", got)
	}
	stopSecond()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestRestockNeedsAFirstStock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.Restock(b.ctx, "COMPASS", 5); err == nil {
		t.Error("it took the place of the first stock")
	}
	seed := event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: "COMPASS", Quantity: 1}}
	b.MustPublish(t, seed, stream.Alone(event.StockAdded, "COMPASS"))
	for range 2 {
		if err := b.Restock(b.ctx, "COMPASS", 5); err != nil {
			t.Error(err)
		}
	}
}

// A stored message that looks to the client library like one of the server's own
// does not stop a fold: it is passed over.
func TestFollowPassesOverControlMessages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var want []uint64
	good := func() {
		id := event.NewOrderID()
		want = append(want, b.MustPublish(t, created(id), stream.First(event.OrderCreated, id)).Sequence)
	}
	bad := func(status string) {
		if _, err := b.JetStream().PublishMsg(b.ctx, &nats.Msg{
			Subject: event.OrderCreated.Subject(event.NewOrderID()), Header: nats.Header{"Status": {status}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	good()
	bad("409")
	bad("100")
	good()
	bad("404")
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var got []uint64
	if err := b.Follow(ctx, []string{"orders.*.*", "payments.*.*"}, 1, func(m jetstream.Msg) error {
		e, err := stream.EventOf(m)
		if err != nil {
			return err
		}
		got = append(got, e.Sequence)
		switch len(got) {
		case 2:
			good() // while it stands before the last one
		case 3:
			cancel()
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}
