package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

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
