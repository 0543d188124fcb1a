package test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// own is a propagator with a header of its own, and none of W3C's.
type own struct{}

func (own) Fields() []string { return []string{"x-own"} }
func (own) Inject(ctx context.Context, c propagation.TextMapCarrier) {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		c.Set("x-own", "00-"+sc.TraceID().String()+"-"+sc.SpanID().String()+"-01")
	}
}
func (own) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": c.Get("x-own")})
}

// With a propagator of other headers than W3C's everything holds for its headers.
func TestOtherHeaders(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithPropagators(own{}))
	_, send := tap.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1", Header: nats.Header{"X-Own": {"stale"}, "traceparent": {valid}}})
	send.End(nil, nil)
	if h := send.Msg.Header; len(h) != 2 || h.Get("x-own") == "" || h.Get("traceparent") != valid {
		t.Errorf("header is %v", h)
	}
	_, again := tap.StartSend(context.Background(), &nats.Msg{Subject: "orders.paid.1", Header: nats.Header{"X-Own": {"stale"}}})
	again.End(nil, nil)
	if h := again.Msg.Header; len(h) != 1 {
		t.Errorf("header is %v", h)
	}
	_ = tap.Process(context.Background(), arrived(nats.Header{"X-OWN": send.Msg.Header["x-own"], "traceparent": {valid}}), nothing)
	s := tap.only(t, "process orders.created.{order_id}")
	wantRoot(t, s)
	produced := tap.only(t, "publish orders.created.{order_id}").SpanContext()
	wantAttrs(t, wantLink(t, s, produced).Attributes, map[string]string{"link.trace_id": produced.TraceID().String()})

	// What would be too large is left out here too.
	_, send = tap.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1", Header: nats.Header{"big": {string(make([]byte, 64_500))}}})
	send.End(nil, nil)
	if len(send.Msg.Header) != 1 {
		t.Errorf("%d headers, want 1", len(send.Msg.Header))
	}
}

// Without an SDK too, a message that is sent on keeps its producer.
func TestCustomContextWithoutSDK(t *testing.T) {
	tracer := tracing.New(tracing.WithTracerProvider(noProvider), tracing.WithPropagators(w3c()))
	_, send := tracer.StartSend(context.Background(), &nats.Msg{Subject: "a", Header: nats.Header{"Traceparent": {valid}, "baggage": {"a=1"}}})
	send.End(nil, nil)
	if h := send.Msg.Header; len(h) != 2 || h["Traceparent"][0] != valid || h["baggage"][0] != "a=1" {
		t.Errorf("header is %v", h)
	}
}
