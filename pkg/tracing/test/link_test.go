package test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/pkg/tracing"
)

// copyOrder puts baggage order.id on every span.
type copyOrder struct{}

func (copyOrder) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	if v := baggage.FromContext(ctx).Member("order.id").Value(); v != "" {
		s.SetAttributes(attribute.String("order.id", v))
	}
}
func (copyOrder) OnEnd(sdktrace.ReadOnlySpan)      {}
func (copyOrder) Shutdown(context.Context) error   { return nil }
func (copyOrder) ForceFlush(context.Context) error { return nil }

func TestLink(t *testing.T) {
	tracer := tracing.New(tracing.WithPropagators(w3c()))
	l := tracer.Link(nats.Header{"traceparent": {valid}, "ce-type": {"payments.confirmed"}, "ce-id": {"payments.confirmed.1"}, jetstream.MsgIDHeader: {"other"}},
		tracing.RelationshipKey.String("payment_confirmation"))
	if l.SpanContext.SpanID().String() != spanID1 || !l.SpanContext.IsSampled() || !l.SpanContext.IsRemote() {
		t.Errorf("link leads to %v", l.SpanContext)
	}
	wantAttrs(t, l.Attributes, map[string]string{
		"link.trace_id": traceID1, "link.event_type": "payments.confirmed",
		"messaging.message.id": "payments.confirmed.1", "link.relationship": "payment_confirmation",
	})
	l = tracer.Link(nats.Header{"traceparent": {valid}, jetstream.MsgIDHeader: {"m"}, "ce-type": {}})
	wantAttrs(t, l.Attributes, map[string]string{"messaging.message.id": "m", "link.event_type": ""})

	for _, h := range []nats.Header{nil, {}, {"traceparent": {}}, {"traceparent": {"bad"}}} {
		if l := tracer.Link(h, attribute.Int("n", 1)); l.SpanContext.IsValid() || l.Attributes != nil {
			t.Errorf("Link(%v) is %v", h, l)
		}
	}
}
