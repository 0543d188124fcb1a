package test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

func mustConsumer(tb testing.TB, js jetstream.JetStream, config jetstream.ConsumerConfig) jetstream.Consumer {
	tb.Helper()
	c, err := js.CreateOrUpdateConsumer(context.Background(), "ORDERS", config)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestReceive(t *testing.T) {
	js := mustJetStream(t)
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
	c := mustConsumer(t, js, jetstream.ConsumerConfig{Durable: "payments"})
	if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
		t.Fatal(err)
	}
	ctx, ambient := tap.provider.Tracer("test").Start(context.Background(), "poll")
	var called time.Time
	msg, err := tap.Receive(ctx, func() (jetstream.Msg, error) {
		called = time.Now()
		return c.Next(jetstream.FetchMaxWait(10 * time.Second))
	}, tracing.WithConsumerGroup("payments"))
	if err != nil {
		t.Fatal(err)
	}
	produced := tap.only(t, "publish orders.created.{order_id}").SpanContext()
	s := tap.only(t, "receive orders.created.{order_id}")
	wantChild(t, s, ambient.SpanContext())
	if s.SpanKind() != trace.SpanKindClient || s.Status().Code != codes.Unset || s.StartTime().After(called) || s.EndTime().Before(called) {
		t.Errorf("kind %v, status %v, from %v to %v", s.SpanKind(), s.Status().Code, s.StartTime(), s.EndTime())
	}
	wantAttrs(t, s.Attributes(), map[string]string{
		"messaging.operation.name": "receive", "messaging.operation.type": "receive", "messaging.destination.name": "orders.created.1",
		"messaging.destination.template": "orders.created.{order_id}", "messaging.consumer.group.name": "payments",
		"messaging.message.id": "1", "messaging.nats.message.delivery_count": "1", "messaging.batch.message_count": "", "error.type": "",
	})
	wantAttrs(t, wantLink(t, s, produced).Attributes, map[string]string{"link.relationship": "received", "link.trace_id": produced.TraceID().String()})

	// What was received is processed as ever, in a trace of its own, and settled,
	// but counted once.
	if err := tap.Process(context.Background(), msg, ack); err != nil {
		t.Fatal(err)
	}
	process := tap.only(t, "process orders.created.{order_id}")
	wantRoot(t, process)
	wantAttrs(t, wantLink(t, process, produced).Attributes, map[string]string{"link.relationship": "triggered_by"})
	wantChild(t, tap.only(t, "ack orders.created.{order_id}"), process.SpanContext())
	if got := m.points(t, consumedMessages); len(got) != 1 || got[0].count != 1 || got[0].attrs["messaging.operation.name"] != "receive" {
		t.Errorf("consumed %v, want 1", got)
	}
	if got := m.points(t, processDuration); len(got) != 1 || got[0].count != 1 {
		t.Errorf("process durations are %v", got)
	}
}

func TestReceiveBatch(t *testing.T) {
	const n = 200
	js := mustJetStream(t)
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
	c := mustConsumer(t, js, jetstream.ConsumerConfig{Durable: "analytics", AckPolicy: jetstream.AckExplicitPolicy})
	for range n {
		if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
			t.Fatal(err)
		}
	}
	msgs, err := tap.ReceiveBatch(context.Background(), func() (jetstream.MessageBatch, error) {
		return c.Fetch(n, jetstream.FetchMaxWait(10*time.Second))
	}, tracing.WithRelationship("polled"), tracing.WithConsumerGroup("analytics"))
	if err != nil || len(msgs) != n {
		t.Fatalf("%d messages, %v", len(msgs), err)
	}
	s := tap.only(t, "receive orders.created.{order_id}")
	wantRoot(t, s)
	if len(s.Links()) != n || s.DroppedLinks() != 0 || s.SpanKind() != trace.SpanKindClient {
		t.Errorf("%d links, %d dropped, kind %v", len(s.Links()), s.DroppedLinks(), s.SpanKind())
	}
	wantAttrs(t, s.Attributes(), map[string]string{"messaging.batch.message_count": "200", "messaging.destination.name": "orders.created.1",
		"messaging.nats.stream.name": "ORDERS", "messaging.consumer.group.name": "analytics"})
	wantAttrs(t, s.Links()[n-1].Attributes, map[string]string{"link.relationship": "polled"})
	err = tap.ProcessBatch(context.Background(), msgs, func(_ context.Context, msgs []jetstream.Msg) error { return msgs[0].Ack() })
	if err != nil {
		t.Fatal(err)
	}
	if got := m.points(t, consumedMessages); len(got) != 1 || got[0].count != n {
		t.Errorf("consumed %v, want %d", got, n)
	}
}

// broken is a batch that ended early.
type broken struct {
	messages chan jetstream.Msg
	err      error
}

func (b broken) Messages() <-chan jetstream.Msg { return b.messages }
func (b broken) Error() error                   { return b.err }

// A failed receive counts 0 messages; what came before the failure counts.
func TestPitfall16FailedReceive(t *testing.T) {
	batch := func(err error, msgs ...jetstream.Msg) func() (jetstream.MessageBatch, error) {
		b := broken{make(chan jetstream.Msg, len(msgs)), err}
		for _, m := range msgs {
			b.messages <- m
		}
		close(b.messages)
		return func() (jetstream.MessageBatch, error) { return b, nil }
	}
	for _, tt := range []struct {
		name     string
		fetch    func() (jetstream.MessageBatch, error)
		spans    int
		class    string
		consumed uint64
	}{
		{"Empty", batch(nil), 0, "", 0},
		{"Timeout", batch(nats.ErrTimeout), 0, "", 0},
		{"Cancelled", batch(context.Canceled), 0, "", 0},
		{"Refused", func() (jetstream.MessageBatch, error) { return nil, jetstream.ErrConsumerNotFound }, 1, "consumer_not_found", 0},
		{"Broken", batch(nats.ErrConnectionClosed), 1, "connection_closed", 0},
		{"BrokenLater", batch(nats.ErrConnectionClosed, arrived(nil), arrived(nats.Header{"traceparent": {valid}})), 1, "connection_closed", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMetrics()
			tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
			msgs, err := tap.ReceiveBatch(context.Background(), tt.fetch)
			if uint64(len(msgs)) != tt.consumed || tt.spans > 0 != (err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, context.Canceled)) {
				t.Errorf("%d messages, %v", len(msgs), err)
			}
			if got := len(tap.spans.Ended()); got != tt.spans {
				t.Fatalf("%d spans, want %d", got, tt.spans)
			}
			durations := m.points(t, operationDuration)
			if len(durations) != tt.spans {
				t.Errorf("durations are %v", durations)
			}
			if tt.spans > 0 {
				s := tap.spans.Ended()[0]
				wantAttrs(t, s.Attributes(), map[string]string{"error.type": tt.class, "messaging.operation.name": "receive"})
				if s.Status() != (sdktrace.Status{Code: codes.Error, Description: tt.class}) || durations[0].attrs["error.type"] != tt.class {
					t.Errorf("status %v, durations %v", s.Status(), durations)
				}
			}
			var consumed uint64
			for _, p := range m.points(t, consumedMessages) {
				consumed += p.count
			}
			if consumed != tt.consumed {
				t.Errorf("consumed %d, want %d", consumed, tt.consumed)
			}
		})
	}
}

// An empty poll makes no span and is returned as it was.
func TestReceiveNothing(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	c := mustConsumer(t, js, jetstream.ConsumerConfig{Durable: "payments"})
	msg, err := tap.Receive(context.Background(), func() (jetstream.Msg, error) { return c.Next(jetstream.FetchMaxWait(time.Millisecond)) })
	if msg != nil || !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("got %v, %v", msg, err)
	}
	if n := len(tap.spans.Started()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

// A message that waits in the client's buffer was fetched, but not returned to the
// caller: there is no span yet.
func TestNoSpanAtPrefetch(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	untraced := tracing.New(tracing.WithTracerProvider(noProvider))
	for range 10 {
		if _, err := untraced.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
			t.Fatal(err)
		}
	}
	c := mustConsumer(t, js, jetstream.ConsumerConfig{Durable: "payments"})
	messages, err := c.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for i := range 3 {
		if _, err := tap.Receive(context.Background(), func() (jetstream.Msg, error) { return messages.Next() }); err != nil {
			t.Fatal(err)
		}
		if n := len(tap.spans.Started()); n != i+1 {
			t.Errorf("%d spans after %d messages", n, i+1)
		}
	}
}
