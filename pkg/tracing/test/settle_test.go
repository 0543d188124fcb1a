package test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestSettle(t *testing.T) {
	js := mustJetStream(t)
	ctx := context.Background()
	for _, tt := range []struct {
		name, span, outcome string
		settle              func(jetstream.Msg) error
	}{
		{"Ack", "ack", "ack", jetstream.Msg.Ack},
		{"DoubleAck", "ack", "ack", func(m jetstream.Msg) error { return m.DoubleAck(ctx) }},
		{"Nak", "nak", "nak", jetstream.Msg.Nak},
		{"NakWithDelay", "nak", "nak", func(m jetstream.Msg) error { return m.NakWithDelay(time.Hour) }},
		{"Term", "term", "term", jetstream.Msg.Term},
		{"TermWithReason", "term", "term", func(m jetstream.Msg) error { return m.TermWithReason("secret") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			if _, err := tap.Publish(ctx, js, nats.NewMsg("orders.created.1")); err != nil {
				t.Fatal(err)
			}
			msgs := mustFetch(t, js, tt.name, 1)
			err := tap.Process(ctx, msgs[0], func(ctx context.Context, msg jetstream.Msg) error {
				// A span of the handler's own is no parent of the settlement.
				_, span := tap.provider.Tracer("test").Start(ctx, "work")
				defer span.End()
				return tt.settle(msg)
			})
			if err != nil {
				t.Fatal(err)
			}
			process := tap.only(t, "process orders.created.{order_id}")
			wantAttrs(t, process.Attributes(), map[string]string{"messaging.nats.message.settlement": tt.outcome})
			s := tap.only(t, tt.span+" orders.created.{order_id}")
			wantChild(t, s, process.SpanContext())
			if s.SpanKind() != trace.SpanKindClient || s.Status().Code != codes.Unset {
				t.Errorf("kind %v, status %v", s.SpanKind(), s.Status().Code)
			}
			wantAttrs(t, s.Attributes(), map[string]string{"messaging.operation.name": tt.span, "messaging.operation.type": "settle"})
		})
	}
}

func TestSettleLate(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	var kept jetstream.Msg
	_ = tap.Process(context.Background(), arrived(nats.Header{"traceparent": {valid}}), func(_ context.Context, msg jetstream.Msg) error {
		kept = msg
		return nil
	})
	process := tap.only(t, "process orders.created.{order_id}")
	wantAttrs(t, process.Attributes(), map[string]string{"messaging.nats.message.settlement": ""})
	if n := len(tap.spans.Ended()); n != 1 {
		t.Errorf("%d spans for a message that was not settled, want 1", n)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { _ = kept.Ack() })
		all.Go(func() { _ = kept.InProgress() })
	}
	all.Wait()
	for _, s := range tap.named("ack orders.created.{order_id}") {
		wantChild(t, s, process.SpanContext())
	}
}

func TestSettleConcurrently(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	msgs := make([]jetstream.Msg, 64)
	for i := range msgs {
		msgs[i] = arrived(nil)
	}
	_ = tap.ProcessBatch(context.Background(), msgs, func(_ context.Context, msgs []jetstream.Msg) error {
		var all sync.WaitGroup
		for _, msg := range msgs {
			all.Go(func() { _ = msg.Nak() })
		}
		all.Wait()
		return nil
	})
	wantAttrs(t, tap.only(t, "process orders.created.{order_id}").Attributes(), map[string]string{"messaging.nats.batch.naks": "64"})
}

func TestInProgress(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	msg := arrived(nil)
	_ = tap.Process(context.Background(), msg, func(_ context.Context, m jetstream.Msg) error {
		_ = m.InProgress()
		msg.settle = jetstream.ErrMsgAlreadyAckd
		_ = m.InProgress()
		return nil
	})
	s := tap.only(t, "process orders.created.{order_id}")
	if len(s.Events()) != 2 || len(tap.spans.Ended()) != 1 {
		t.Fatalf("%d events, %d spans", len(s.Events()), len(tap.spans.Ended()))
	}
	wantAttrs(t, s.Attributes(), map[string]string{"messaging.nats.message.settlement": ""})
	wantAttrs(t, s.Events()[1].Attributes, map[string]string{"error.type": "already_acknowledged"})
}

func TestSettleCarriesBaggage(t *testing.T) {
	copied := newTap(sdktrace.AlwaysSample())
	copied.provider.RegisterSpanProcessor(copyOrder{})
	_ = copied.Process(context.Background(), arrived(nats.Header{"baggage": {"order.id=1"}}), ack)
	for _, name := range []string{"process orders.created.{order_id}", "ack orders.created.{order_id}"} {
		wantAttrs(t, copied.only(t, name).Attributes(), map[string]string{"order.id": "1"})
	}
}
