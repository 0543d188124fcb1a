package stream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// full has the stream refuse whatever is published, until the returned function is
// called: as if its disk were full.
func full(t *testing.T, b bench) (free func()) {
	t.Helper()
	s, err := b.JetStream().Stream(b.ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	set := func(limit int64) {
		cfg := s.CachedInfo().Config
		cfg.MaxMsgs, cfg.Discard = limit, jetstream.DiscardNew
		if _, err := b.JetStream().UpdateStream(b.ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	set(int64(s.CachedInfo().State.Msgs))
	return func() { set(-1) }
}

// patient has the consumer wait for so long before it delivers an event again.
func patient(t *testing.T, b bench, ackWait time.Duration) {
	t.Helper()
	c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.CachedInfo().Config
	cfg.AckWait = ackWait
	if _, err := b.JetStream().UpdateConsumer(b.ctx, stream.OrdersStream, cfg); err != nil {
		t.Fatal(err)
	}
}

// NATS that cannot store for a while is no failure of the handler's: it is called
// until it can, and nothing becomes a dead letter.
func TestUnavailableIsNoFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	stored := b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	free := full(t, b)
	patient(t, b, patience)

	const calledAgain = 8 // more often than an event may be delivered
	var got calls
	consume(t, b.Client, durable, func(ctx context.Context, e event.Event) error {
		if got.add(e) == calledAgain {
			free()
		}
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := b.PublishOnce(ctx, declined(id), stream.First(event.PaymentDeclined, id))
		if err != nil && !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		return err
	})
	systemtest.Until(t, "the outcome is stored", func() bool {
		events, err := b.Order(b.ctx, id, stored.Sequence)
		return err == nil && len(events) == 2
	})
	letters(t, b, 0)
	for i, e := range got.all() {
		if e.Retry != (i > 0) {
			t.Errorf("call %d: Retry is %t", i+1, e.Retry)
		}
	}
	if n := len(got.all()); n < calledAgain {
		t.Errorf("the handler was called %d times", n)
	}
}

// Whoever has used up its own time cannot blame NATS.
func TestUnavailableIsNotTheHandlersOwnTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	id := event.NewOrderID()
	if _, err := b.PublishOnce(ctx, created(id), stream.First(event.OrderCreated, id)); !errors.Is(err, context.Canceled) || errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("publish: got %v", err)
	}
	if _, err := b.Order(ctx, id, 0); !errors.Is(err, context.Canceled) || errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("read: got %v", err)
	}
}

// Who is told to stop gives an event back that waits for NATS.
func TestStopWhileUnavailable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	full(t, b)
	patient(t, b, patience)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var got calls
	done := make(chan error, 1)
	go func() {
		done <- b.Consume(ctx, durable, func(ctx context.Context, e event.Event) error {
			if got.add(e) == 2 {
				cancel()
			}
			ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			defer cancel()
			_, err := b.PublishOnce(ctx, declined(id), stream.First(event.PaymentDeclined, id))
			return err
		})
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-b.ctx.Done():
		t.Fatal("does not stop")
	}
	if n := len(got.all()); n != 2 {
		t.Errorf("the handler was called %d times", n)
	}
}

// An event that waits for others is not delivered again meanwhile: it would be
// handled twice at the same time, and its deliveries be used up on nothing.
func TestNoneWaitsInTheClient(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	patient(t, b, 2*time.Second)
	const n = 100
	for range n {
		id := event.NewOrderID()
		b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	}
	var got calls
	back := make(chan struct{}) // closed when NATS is there again
	consume(t, b.Client, durable, func(_ context.Context, e event.Event) error {
		got.add(e)
		select {
		case <-back:
			<-time.After(200 * time.Millisecond) // an effect
			return nil
		default:
			return stream.ErrUnavailable
		}
	})
	systemtest.Until(t, "one event was tried for long", func() bool {
		tries := map[string]int{}
		for _, e := range got.all() {
			tries[e.Key]++
		}
		for _, n := range tries {
			if n > 6 { // 100 + 200 + 400 + 800 + 800 + 800 ms
				return true
			}
		}
		return false
	})
	close(back)
	systemtest.Until(t, "all are settled", func() bool {
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		return err == nil && c.CachedInfo().AckFloor.Stream == n && c.CachedInfo().NumAckPending == 0
	})
	for _, e := range got.all() {
		if e.Delivery > 1 && !e.Retry {
			t.Errorf("%s was delivered again: delivery %d", e.Key, e.Delivery)
		}
	}
}
