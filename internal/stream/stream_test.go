package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// patience bounds the wait for something that should happen soon.
const patience = 20 * time.Second

const durable = "tester"

// bench is a server with a client on it.
type bench struct {
	*stream.Client
	server *embedded.Server
	conn   *nats.Conn
	ctx    context.Context // ends with the test's patience
}

func newBench(t *testing.T) bench {
	t.Helper()
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	b := bench{server: server, ctx: ctx}
	b.Client, b.conn = MustClient(t, server)
	if err := stream.Provision(ctx, b.JetStream(), stream.Topology{
		AckWait: 500 * time.Millisecond, LeaseTTL: time.Second,
		Durables: []stream.Durable{handledBy(nil)},
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// handledBy returns the bench's durable consumer with h as its handler.
func handledBy(h stream.Handler) stream.Durable {
	return stream.Durable{Name: durable, Stream: stream.OrdersStream, On: stream.OnEach(h, event.OrderCreated)}
}

func MustClient(t *testing.T, server *embedded.Server) (*stream.Client, *nats.Conn) {
	t.Helper()
	nc, err := server.Connect(nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := stream.New(nc, tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider())), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c, nc
}

func created(id string) event.Draft {
	return event.Draft{Type: event.OrderCreated, Payload: event.Created{OrderKey: event.OrderKey{OrderID: id}, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}}}}
}

func declined(id string) event.Draft {
	return event.Draft{Type: event.PaymentDeclined, Payload: event.Refused{OrderKey: event.OrderKey{OrderID: id}, Reason: event.ReasonPaymentDeclined}}
}

func confirmed(id string) event.Draft {
	return event.Draft{Type: event.PaymentConfirmed, Payload: event.Charge{OrderKey: event.OrderKey{OrderID: id}}}
}

func refunded(id string) event.Draft {
	return event.Draft{Type: event.PaymentRefunded, Payload: event.Charge{OrderKey: event.OrderKey{OrderID: id}}}
}

func (b bench) MustPublish(t *testing.T, d event.Draft, g stream.Guard) stream.Stored {
	t.Helper()
	stored, err := b.PublishOnce(b.ctx, d, g)
	if err != nil {
		t.Fatalf("publish %s: %v", d.Type, err)
	}
	return stored
}

func TestPublishOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	first := b.MustPublish(t, confirmed(id), stream.First(event.PaymentConfirmed, id))
	t.Run("Again", func(t *testing.T) {
		if again := b.MustPublish(t, confirmed(id), stream.First(event.PaymentConfirmed, id)); again.Sequence != first.Sequence {
			t.Errorf("stored at %d, want %d", again.Sequence, first.Sequence)
		}
	})
	t.Run("Conflict", func(t *testing.T) {
		if _, err := b.PublishOnce(b.ctx, declined(id), stream.First(event.PaymentDeclined, id)); !errors.Is(err, stream.ErrConflict) {
			t.Errorf("got %v, want ErrConflict", err)
		}
	})
	t.Run("AgainBehindALaterOne", func(t *testing.T) {
		b.MustPublish(t, refunded(id), stream.After(event.PaymentRefunded, id, first.Sequence))
		if again := b.MustPublish(t, confirmed(id), stream.First(event.PaymentConfirmed, id)); again.Sequence != first.Sequence {
			t.Errorf("stored at %d, want %d", again.Sequence, first.Sequence)
		}
	})
	t.Run("TooLate", func(t *testing.T) {
		other := event.NewOrderID()
		if _, err := b.PublishOnce(b.ctx, refunded(other), stream.After(event.PaymentRefunded, other, 1)); !errors.Is(err, stream.ErrConflict) {
			t.Errorf("got %v, want ErrConflict", err)
		}
	})
	t.Run("MessageID", func(t *testing.T) {
		one, two := event.NewOrderID(), event.NewOrderID()
		guard := func(id string) stream.Guard {
			g := stream.First(event.OrderCreated, id)
			g.MsgID = "key/x"
			return g
		}
		stored := b.MustPublish(t, created(one), guard(one))
		repeated := b.MustPublish(t, created(two), guard(two))
		if stored.Duplicate || !repeated.Duplicate || repeated.Sequence != stored.Sequence {
			t.Errorf("got %+v, then %+v", stored, repeated)
		}
	})
	t.Run("TooLarge", func(t *testing.T) {
		id := event.NewOrderID()
		d := created(id)
		c := d.Payload.(event.Created)
		c.RequestHash = string(make([]byte, 2<<20))
		d.Payload = c
		start := time.Now()
		if _, err := b.PublishOnce(b.ctx, d, stream.First(d.Type, id)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v, want a permanent error at once", err, time.Since(start))
		}
	})
}

// Many publish the outcome of one order at once: one outcome wins, and all that
// published the same outcome succeed.
func TestPublishOnceRace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	var won, lost atomic.Int64
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			d := confirmed(id)
			if i%2 == 0 {
				d = declined(id)
			}
			switch _, err := b.PublishOnce(b.ctx, d, stream.First(d.Type, id)); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, stream.ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 20 || lost.Load() != 20 {
		t.Errorf("%d publishes succeeded, %d conflicted: want 20 of each", won.Load(), lost.Load())
	}
	events, err := b.OrderEvents(b.ctx, id, 1)
	if err != nil || len(events) != 1 {
		t.Errorf("%d outcomes are stored (%v), want 1", len(events), err)
	}
}

func TestOrderEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	one := b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	two := b.MustPublish(t, confirmed(id), stream.First(event.PaymentConfirmed, id))
	b.MustPublish(t, created(event.NewOrderID()), stream.Guard{Filter: "orders.created.none"})

	// Foreign messages, one with headers that imitate the server's.
	for _, m := range []*nats.Msg{
		{Subject: "inventory.reserved." + id, Data: []byte("{}")},
		{Subject: "inventory.rejected." + id, Data: []byte("{}"), Header: nats.Header{
			"Status": {"204"}, "Nats-UpTo-Sequence": {"1"},
			jetstream.SubjectHeader: {"payments.declined." + id}, jetstream.SequenceHeader: {"1"},
		}},
	} {
		if _, err := b.JetStream().PublishMsg(b.ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	events, err := b.OrderEvents(b.ctx, id, two.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, e := range events {
		got = append(got, e.Sequence)
	}
	if want := []uint64{one.Sequence, two.Sequence}; !slices.Equal(got, want) {
		t.Errorf("read the events %v, want %v", got, want)
	}

	t.Run("Types", func(t *testing.T) {
		events, err := b.OrderEvents(b.ctx, id, one.Sequence, event.OrderCreated)
		if err != nil || len(events) != 1 || events[0].Type != event.OrderCreated {
			t.Errorf("got %v, %v", events, err)
		}
	})
	t.Run("Unknown", func(t *testing.T) {
		if events, err := b.OrderEvents(b.ctx, event.NewOrderID(), 0); err != nil || len(events) != 0 {
			t.Errorf("got %v, %v", events, err)
		}
	})
	t.Run("WaitsForALaggingReplica", func(t *testing.T) {
		// last+1 is the sequence that the order's next event will get.
		next := event.NewOrderID()
		last := b.MustPublish(t, created(next), stream.First(event.OrderCreated, next)).Sequence
		read := make(chan int, 1)
		go func() {
			events, err := b.OrderEvents(b.ctx, next, last+1)
			if err != nil {
				t.Error(err)
			}
			read <- len(events)
		}()
		select {
		case n := <-read:
			t.Fatalf("read %d events before the last one was stored", n)
		case <-time.After(50 * time.Millisecond):
		}
		b.MustPublish(t, confirmed(next), stream.First(event.PaymentConfirmed, next))
		if n := <-read; n != 2 {
			t.Errorf("read %d events, want 2", n)
		}
	})
}
