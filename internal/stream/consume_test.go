package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// Consume and Follow stop soon, also while NATS is away.
func TestStopWhileAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running := map[string]func() error{
		"Consume": func() error {
			return b.Consume(ctx, handledBy(func(context.Context, event.Event) error { return nil }))
		},
		"Follow": func() error {
			return b.Follow(ctx, []string{"orders.*.*"}, stream.Position{}, func(jetstream.Msg) error { return nil })
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
	working := func() bool {
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		return err == nil && c.CachedInfo().NumWaiting > 0
	}
	systemtest.Until(t, "the consumer requests events", working)
	b.server.Close()
	systemtest.Until(t, "the connection is lost", func() bool { return !b.conn.IsConnected() })
	cancel()
	deadline := time.After(8 * time.Second) // the time that a service has to stop
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
		done <- b.Consume(ctx, handledBy(func(_ context.Context, e event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			deliveries[e.Key] = append(deliveries[e.Key], e.Delivery)
			if e.Key == retried && e.Delivery < 3 {
				return errors.New("not yet")
			}
			return nil
		}))
	}()
	systemtest.Until(t, "everything is settled", func() bool {
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		// The server counts what is pending a little after it has stored it.
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
