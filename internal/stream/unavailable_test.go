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

// full makes the stream refuse every publish, as if its disk were full, until the
// returned function is called.
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

// patient sets how long the server waits before it delivers an event again.
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

// While NATS cannot store, the handler is called again and again. That is not counted
// as its failure: no event becomes a dead letter.
func TestUnavailableIsNoFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	stored := b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	free := full(t, b)
	patient(t, b, patience)

	const calledAgain = 6 // more often than an event may be delivered
	var got calls
	consume(t, b.Client, handledBy(func(ctx context.Context, e event.Event) error {
		if got.add(e) == calledAgain {
			free()
		}
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err := b.PublishOnce(ctx, declined(id), stream.First(event.PaymentDeclined, id))
		if err != nil && !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		return err
	}))
	systemtest.Until(t, "the outcome is stored", func() bool {
		events, err := b.OrderEvents(b.ctx, id, stored.Sequence)
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

// A caller whose context has ended before gets that error, not ErrUnavailable.
func TestUnavailableIsNotTheHandlersOwnTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	id := event.NewOrderID()
	if _, err := b.PublishOnce(ctx, created(id), stream.First(event.OrderCreated, id)); !errors.Is(err, context.Canceled) || errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("publish: got %v", err)
	}
	if _, err := b.OrderEvents(ctx, id, 0); !errors.Is(err, context.Canceled) || errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("read: got %v", err)
	}
}

// A consumer that stops gives back an event whose handler waits for NATS.
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
		done <- b.Consume(ctx, handledBy(func(ctx context.Context, e event.Event) error {
			if got.add(e) == 2 {
				cancel()
			}
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			_, err := b.PublishOnce(ctx, declined(id), stream.First(event.PaymentDeclined, id))
			return err
		}))
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-b.ctx.Done():
		t.Fatal("Consume does not return")
	}
	if n := len(got.all()); n != 2 {
		t.Errorf("the handler was called %d times", n)
	}
}

// While all workers are busy, no event waits in the client until it is delivered again:
// it would be handled twice at the same time, and its deliveries would be used up.
func TestNoneWaitsInTheClient(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	patient(t, b, 1500*time.Millisecond)
	const n = 100
	for range n {
		id := event.NewOrderID()
		b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	}
	var got calls
	back := make(chan struct{}) // closed when NATS is available again
	consume(t, b.Client, handledBy(func(_ context.Context, e event.Event) error {
		got.add(e)
		select {
		case <-back:
			<-time.After(200 * time.Millisecond) // an effect
			return nil
		default:
			return stream.ErrUnavailable
		}
	}))
	systemtest.Until(t, "one event was tried for a long time", func() bool {
		tries := map[string]int{}
		for _, e := range got.all() {
			tries[e.Key]++
		}
		for _, n := range tries {
			if n > 5 { // 100 + 200 + 400 + 800 + 800 ms: longer than the server waits
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
