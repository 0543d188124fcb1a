package analytics_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

// What is there before the service starts is counted in large batches: one root
// span each, with a link to every message's producer, none dropped.
func TestBatchSpans(t *testing.T) {
	t.Parallel()
	const stored = 300
	server := systemtest.Server(t)
	producers := MustStore(t, server, stored)
	sys := systemtest.StartOn(t, server.Connect, func(cfg *systemtest.Config) {
		cfg.Wire = map[string]service.Wire{
			"payments": systemtest.Idle, "inventory": systemtest.Idle, "fulfillment": systemtest.Idle, "notify": systemtest.Idle,
		}
	})
	linked := map[trace.SpanID]attribute.Set{}
	widest := 0
	systemtest.Until(t, "every stored event is linked", func() bool {
		clear(linked)
		for _, s := range sys.Spans.GetSpans() {
			if s.Name != "process ORDERS" {
				continue
			}
			widest = max(widest, len(s.Links))
			for _, l := range s.Links {
				linked[l.SpanContext.SpanID()] = attribute.NewSet(l.Attributes...)
			}
		}
		return len(linked) >= stored
	})
	for id, order := range producers {
		link, ok := linked[id]
		if !ok {
			t.Errorf("no batch links the span that published order %s", order)
			continue
		}
		for key, want := range map[attribute.Key]string{"order.id": order, "link.relationship": "triggered_by", "link.event_type": "orders.created"} {
			if got, _ := link.Value(key); got.AsString() != want {
				t.Errorf("link's %s = %q, want %q", key, got.AsString(), want)
			}
		}
	}
	if widest <= 128 {
		t.Errorf("the largest batch has %d links: too few to show that none is dropped", widest)
	}
	for _, s := range sys.Spans.GetSpans() {
		if s.Name == "process ORDERS" {
			checkBatch(t, s)
		}
	}
}

func checkBatch(t *testing.T, s tracetest.SpanStub) {
	t.Helper()
	if s.SpanKind != trace.SpanKindConsumer {
		t.Errorf("a batch's span is %v, want a consumer", s.SpanKind)
	}
	if s.Parent.IsValid() {
		t.Error("a batch's span has a parent, want a root")
	}
	if s.DroppedLinks > 0 {
		t.Errorf("%d links were dropped", s.DroppedLinks)
	}
	attributes := attribute.NewSet(s.Attributes...)
	for _, key := range []attribute.Key{"messaging.batch.message_count", "batch.link_count"} {
		if got, ok := attributes.Value(key); got.AsInt64() != int64(len(s.Links)) {
			t.Errorf("%s = %d (there: %t), want %d links", key, got.AsInt64(), ok, len(s.Links))
		}
	}
	if got, ok := attributes.Value("order.id"); ok {
		t.Errorf("a batch's span is said to be order %s's", got.AsString())
	}
}

// MustStore stores orders before any service runs, each published in a trace of
// its own, and returns the publishing spans with their orders.
func MustStore(tb testing.TB, server *embedded.Server, n int) map[trace.SpanID]string {
	tb.Helper()
	ctx := context.Background()
	nc, err := server.Connect()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	if err := stream.Provision(ctx, js, stream.Topology{}); err != nil {
		tb.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider()
	client, err := stream.New(nc, tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(propagation.TraceContext{})), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	producers := map[trace.SpanID]string{}
	for range n {
		id := event.NewOrderID()
		stored, err := client.PublishOnce(ctx, event.Draft{Type: event.OrderCreated, Payload: event.Created{
			OrderKey: event.OrderKey{OrderID: id}, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}},
		}}, stream.First(event.OrderCreated, id))
		if err != nil {
			tb.Fatal(err)
		}
		span := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, tracing.HeaderCarrier(stored.Header)))
		producers[span.SpanID()] = id
	}
	return producers
}
