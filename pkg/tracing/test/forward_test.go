package test

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// headersOnly is a message with headers only.
type headersOnly nats.Header

func (s headersOnly) Headers() nats.Header { return nats.Header(s) }
func (headersOnly) Data() []byte           { return []byte("data") }

func TestForward(t *testing.T) {
	tracer := tracing.New()
	header := nats.Header{
		"traceparent": {valid}, "baggage": {"a=1", "b=2"}, "ce-id": {"orders.created.1"}, "empty": {},
		"Nats-Msg-Id": {"1"}, "nats-expected-last-sequence": {"7"}, "Nats-Schedule": {"@at x"}, "Nats-TTL": {"1s"},
		"Nats-Rollup": {"all"}, "Status": {"100"}, "description": {"Idle Heartbeat"},
	}
	m := tracer.Forward(headersOnly(header), "dead.orders.created.1")
	if m.Subject != "dead.orders.created.1" || string(m.Data) != "data" {
		t.Errorf("got %s %s", m.Subject, m.Data)
	}
	for name, values := range header {
		kept := slices.Contains([]string{"traceparent", "baggage", "ce-id", "empty"}, name)
		if got, ok := m.Header[name]; ok != kept || kept && !slices.Equal(got, values) {
			t.Errorf("header %s is %q, want it kept: %t", name, got, kept)
		}
	}
	m.Header["ce-id"][0] = "changed"
	m.Header["more"] = []string{"x"}
	if header["ce-id"][0] != "orders.created.1" || len(header) != 11 {
		t.Error("the original has changed")
	}
	if m := tracer.Forward(headersOnly(nil), "x"); m.Header == nil || len(m.Header) != 0 {
		t.Errorf("no headers became %v", m.Header)
	}
}

// The consumer of a forwarded message links its first producer, within the
// duplicate window too; the span that forwards is no producer.
func TestForwardKeepsTheProducer(t *testing.T) {
	js := mustJetStream(t)
	ctx := context.Background()
	tap := newTap(sdktrace.AlwaysSample())
	if _, err := tap.Publish(ctx, js, nats.NewMsg("orders.created.1"), jetstream.WithMsgID("1")); err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{Durable: "payments"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		err = tap.Process(ctx, m, func(ctx context.Context, m jetstream.Msg) error {
			if m.Subject() == "orders.created.1" {
				ack, err := tap.Publish(ctx, js, tap.Forward(m, "orders.again.1"))
				if err != nil || ack.Duplicate {
					t.Errorf("got %+v, %v", ack, err)
				}
			}
			return m.Ack()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	producer := tap.named("publish orders.created.{order_id}")[0].SpanContext().SpanID()
	forward := tap.named("publish orders.again.{order_id}")[0]
	again := tap.named("process orders.again.{order_id}")[0]
	if forward.SpanKind() != trace.SpanKindClient {
		t.Errorf("forwarding is a %s span", forward.SpanKind())
	}
	for _, s := range []sdktrace.ReadOnlySpan{forward, again} {
		if links := s.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != producer {
			t.Errorf("%s links %v, want the producer alone", s.Name(), links)
		}
	}
	wantRoot(t, again)
}
