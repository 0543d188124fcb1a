package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

// traced is a client whose spans are recorded.
type traced struct {
	*stream.Client
	spans *tracetest.SpanRecorder
}

func newTraced(t *testing.T, server *embedded.Server, opts ...stream.Option) traced {
	t.Helper()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	spans := tracetest.NewSpanRecorder()
	c, err := stream.New(nc, tracing.New(
		tracing.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))),
		tracing.WithPropagators(propagation.TraceContext{}),
		tracing.WithDestinationTemplate(event.Template),
	), slog.New(slog.DiscardHandler), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return traced{c, spans}
}

// span returns the n-th span of a name that has ended.
func (c traced) span(t *testing.T, name string, n int) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	systemtest.Until(t, "span "+name, func() bool {
		found = nil
		for _, s := range c.spans.Ended() {
			if s.Name() == name {
				found = append(found, s)
			}
		}
		return len(found) > n
	})
	return found[n]
}

// link returns the span that s links in that relationship.
func link(s sdktrace.ReadOnlySpan, relationship string) trace.SpanContext {
	for _, l := range s.Links() {
		if slices.Contains(l.Attributes, tracing.RelationshipKey.String(relationship)) {
			return l.SpanContext
		}
	}
	return trace.SpanContext{}
}

// calls records what a handler was called with.
type calls struct {
	mu     sync.Mutex
	events []event.Event
}

func (c *calls) add(e event.Event) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	return len(c.events)
}

func (c *calls) all() []event.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// consume runs Consume until the test ends.
func consume(t *testing.T, c *stream.Client, d stream.Durable) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Consume(ctx, d) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("consume %s: %v", d.Name, err)
		}
	})
}

// letters waits until there are n dead letters, and the consumer has nothing left.
func letters(t *testing.T, b bench, n int) []stream.DeadLetter {
	t.Helper()
	var all []stream.DeadLetter
	systemtest.Until(t, "the dead letters are there", func() bool {
		var err error
		if all, err = b.DeadLetters(b.ctx); err != nil {
			t.Fatal(err)
		}
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		return err == nil && len(all) == n && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().NumPending == 0
	})
	return all
}

var errHandler = errors.New("no luck\r\n\tat all")

// An event that fails each time is handled five times. Then it becomes a dead letter,
// which describes the failure.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := newTraced(t, b.server)
	id := event.NewOrderID()
	stored, err := c.PublishOnce(b.ctx, created(id), stream.First(event.OrderCreated, id))
	if err != nil {
		t.Fatal(err)
	}
	var got calls
	consume(t, c.Client, handledBy(func(_ context.Context, e event.Event) error { got.add(e); return errHandler }))
	l := letters(t, b, 1)[0]
	if n := len(got.all()); n != 5 {
		t.Errorf("handled %d times, want 5", n)
	}
	if l.ID != "tester.1" || l.Consumer != durable || l.Stream != stream.OrdersStream || l.Sequence != stored.Sequence ||
		l.Subject != stored.Subject || l.Reason != stream.ReasonDeliveries || l.Deliveries != 5 ||
		l.Error != "no luck at all" || string(l.Data) != string(stored.Data) || time.Since(l.Time) > time.Minute {
		t.Errorf("got %+v", l)
	}
	for name, values := range stored.Header {
		if !strings.HasPrefix(name, "Nats-") && !slices.Equal(l.Header[name], values) {
			t.Errorf("header %s: %q, want %q", name, l.Header[name], values)
		}
	}
	failed := c.span(t, "process orders.created.{order_id}", 4).SpanContext()
	if want := "00-" + failed.TraceID().String() + "-" + failed.SpanID().String() + "-01"; l.Span != want {
		t.Errorf("failed span %q, want %q", l.Span, want)
	}
	published := c.span(t, "publish deadletters.tester.{sequence}", 0)
	if published.Parent().SpanID() != failed.SpanID() || published.SpanKind() != trace.SpanKindClient {
		t.Errorf("the dead letter was published by %s below %s", published.SpanKind(), published.Parent().SpanID())
	}
	if one, err := b.DeadLetter(b.ctx, l.ID); err != nil || one.Subject != l.Subject {
		t.Errorf("DeadLetter(%s) = %+v, %v", l.ID, one, err)
	}
}

// A permanent error makes an event a dead letter at once.
func TestDeadLetterPermanent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	var got calls
	consume(t, b.Client, handledBy(func(_ context.Context, e event.Event) error { got.add(e); return stream.Permanent(errHandler) }))
	l := letters(t, b, 1)[0]
	if len(got.all()) != 1 || l.Reason != stream.ReasonPermanent || l.Deliveries != 1 {
		t.Errorf("handled %d times, got %+v", len(got.all()), l)
	}
}

// An event whose handlers crash becomes a dead letter before it is handled once more.
// BeforeDeadLetter is called first, until it succeeds.
func TestDeadLetterUnfinished(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	var handled, given calls
	c := newTraced(t, b.server, stream.OnDeliver(func(_ string, m jetstream.Msg) []jetstream.Msg {
		if meta, err := m.Metadata(); err != nil || meta.NumDelivered <= 5 {
			return nil // as if the process had crashed
		}
		return []jetstream.Msg{m}
	}))
	d := handledBy(func(_ context.Context, e event.Event) error { handled.add(e); return nil })
	d.BeforeDeadLetter = func(_ context.Context, e event.Event) error {
		if given.add(e) == 1 {
			return errHandler
		}
		return nil
	}
	consume(t, c.Client, d)
	l := letters(t, b, 1)[0]
	if len(handled.all()) != 0 || len(given.all()) != 2 {
		t.Errorf("handled %d times, given up %d times, want 0 and 2", len(handled.all()), len(given.all()))
	}
	if l.Reason != stream.ReasonDeliveries || l.Deliveries != 7 || !strings.Contains(l.Error, "never settled") {
		t.Errorf("got %+v", l)
	}
}

// A message whose headers are nearly full becomes a dead letter too, without them.
func TestDeadLetterOfAFullHeader(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m, err := created(event.NewOrderID()).Message(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.Header["padding"] = []string{strings.Repeat("x", 64<<10-1000)}
	if _, err := b.JetStream().PublishMsg(b.ctx, m); err != nil {
		t.Fatal(err)
	}
	consume(t, b.Client, handledBy(func(context.Context, event.Event) error { return stream.Permanent(errHandler) }))
	if l := letters(t, b, 1)[0]; l.Subject != m.Subject || l.Error != "no luck at all" || l.Header["ce-id"][0] != m.Subject {
		t.Errorf("got %+v", l)
	}
}
