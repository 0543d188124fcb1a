package test

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/sampling"
)

func TestProcessBatch(t *testing.T) {
	const n = 200
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	for i := range n {
		if _, err := tap.Publish(context.Background(), js, nats.NewMsg(fmt.Sprintf("orders.created.%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	msgs := mustFetch(t, js, "analytics", n)
	err := tap.ProcessBatch(context.Background(), msgs, func(ctx context.Context, msgs []jetstream.Msg) error {
		if len(msgs) != n || baggage.FromContext(ctx).Len() != 0 {
			t.Errorf("%d messages, baggage %s", len(msgs), baggage.FromContext(ctx))
		}
		for _, msg := range msgs[1:] {
			if err := msg.Ack(); err != nil {
				return err
			}
		}
		return msgs[0].Term()
	}, tracing.WithLinkAttributes(func(m jetstream.Msg) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("order.id", m.Subject()[len("orders.created."):])}
	}), tracing.WithConsumerGroup("analytics"))
	if err != nil {
		t.Fatal(err)
	}
	s := tap.only(t, "process orders.created.{order_id}")
	wantRoot(t, s)
	if s.SpanKind() != trace.SpanKindConsumer || len(s.Links()) != n || s.DroppedLinks() != 0 {
		t.Fatalf("kind %v, %d links, %d dropped", s.SpanKind(), len(s.Links()), s.DroppedLinks())
	}
	wantAttrs(t, s.Attributes(), map[string]string{
		"messaging.batch.message_count": "200", "messaging.consumer.group.name": "analytics",
		"messaging.destination.name": "", "messaging.nats.stream.name": "ORDERS", "messaging.operation.type": "process",
		"messaging.nats.batch.acks": "199", "messaging.nats.batch.terms": "1", "messaging.nats.batch.naks": "",
	})
	for i, p := range tap.named("publish orders.created.{order_id}") {
		l := s.Links()[i]
		if l.SpanContext.SpanID() != p.SpanContext().SpanID() {
			t.Fatalf("link %d leads to %s, want %s", i, l.SpanContext.SpanID(), p.SpanContext().SpanID())
		}
		wantAttrs(t, l.Attributes, map[string]string{
			"order.id": fmt.Sprint(i), "messaging.destination.name": fmt.Sprintf("orders.created.%d", i),
			"link.relationship": "triggered_by", "link.trace_id": p.SpanContext().TraceID().String(),
		})
	}
	acks := tap.named("ack orders.created.{order_id}")
	if len(acks) != n-1 {
		t.Fatalf("%d acks", len(acks))
	}
	wantChild(t, acks[0], s.SpanContext())
	wantChild(t, tap.only(t, "term orders.created.{order_id}"), s.SpanContext())
}

func TestProcessBatchVariants(t *testing.T) {
	one := []jetstream.Msg{arrived(nats.Header{"traceparent": {valid}})}
	all := func(context.Context, []jetstream.Msg) error { return nil }

	t.Run("One", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample(), tracing.WithTopologyParent())
		_ = tap.ProcessBatch(context.Background(), one, all)
		s := tap.only(t, "process orders.created.{order_id}")
		wantRoot(t, s)
		wantAttrs(t, s.Attributes(), map[string]string{"messaging.batch.message_count": "1", "messaging.destination.name": "orders.created.1"})
	})
	t.Run("Empty", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		called := false
		_ = tap.ProcessBatch(context.Background(), nil, func(context.Context, []jetstream.Msg) error { called = true; return nil })
		if !called || len(tap.spans.Ended()) != 0 {
			t.Errorf("called %t, %d spans", called, len(tap.spans.Ended()))
		}
	})
	t.Run("WithoutContext", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		_ = tap.ProcessBatch(context.Background(), append([]jetstream.Msg{arrived(nil)}, one...), all, tracing.WithDestination("orders"))
		if s := tap.only(t, "process orders.created.{order_id}"); len(s.Links()) != 1 {
			t.Errorf("%d links", len(s.Links()))
		}
	})
	t.Run("SeveralTemplates", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		several := []jetstream.Msg{arrived(nil), arrived(nil), arrived(nil)}
		several[1].(*received).subject = "orders.cancelled.1"
		_ = tap.ProcessBatch(context.Background(), several, all)
		_ = tap.ProcessBatch(context.Background(), several, all, tracing.WithDestination("orders.>"))
		for _, name := range []string{"process", "process orders.>"} {
			wantAttrs(t, tap.only(t, name).Attributes(), map[string]string{"messaging.destination.name": "", "messaging.destination.template": ""})
		}
	})
	t.Run("Ambient", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		ctx, ambient := tap.provider.Tracer("test").Start(context.Background(), "ambient")
		_ = tap.ProcessBatch(ctx, one, all)
		s := tap.only(t, "process orders.created.{order_id}")
		wantChild(t, s, ambient.SpanContext())
		if len(s.Links()) != 1 {
			t.Errorf("%d links", len(s.Links()))
		}
	})
	t.Run("Untrusted", func(t *testing.T) {
		tap := newTap(sampling.LinkAware(sdktrace.NeverSample()))
		_ = tap.ProcessBatch(context.Background(), one, all, tracing.WithUntrusted())
		if len(tap.spans.Ended()) != 0 {
			t.Error("an untrusted message had its span kept")
		}
	})
}

// A batch whose handler processes its messages one by one: they are counted once,
// and settled once.
func TestProcessWithinBatch(t *testing.T) {
	js := mustJetStream(t)
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
	for range 3 {
		if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
			t.Fatal(err)
		}
	}
	err := tap.ProcessBatch(context.Background(), mustFetch(t, js, "payments", 3), func(ctx context.Context, msgs []jetstream.Msg) error {
		for _, msg := range msgs {
			if err := tap.Process(ctx, msg, ack); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var consumed uint64
	for _, p := range m.points(t, consumedMessages) {
		consumed += p.count
	}
	if consumed != 3 {
		t.Errorf("consumed %d, want 3", consumed)
	}
	batch := tap.batch(t)
	wantAttrs(t, batch.Attributes(), map[string]string{"messaging.nats.batch.acks": "3"})
	single, acks := tap.named("process orders.created.{order_id}")[:3], tap.named("ack orders.created.{order_id}")
	if len(acks) != 3 {
		t.Fatalf("%d ack spans, want 3", len(acks))
	}
	for i, s := range single {
		wantChild(t, s, batch.SpanContext())
		wantAttrs(t, s.Attributes(), map[string]string{"messaging.nats.message.settlement": "ack"})
		wantChild(t, acks[i], s.SpanContext())
	}
}
