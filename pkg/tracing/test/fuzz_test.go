package test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/sampling"
)

// A message of an untrusted producer, with any headers, is processed in a trace of its
// own. Its baggage does not reach the handler, and it does not influence sampling.
func FuzzUntrusted(f *testing.F) {
	f.Add("traceparent", valid, "baggage", "k=v", "ce-id", "1")
	f.Add("Traceparent", valid, "BAGGAGE", "k=v", "tracestate", "a=1")
	f.Add("Xraceparent", valid[:53]+"03", "Nats-Msg-Id", "\xff", "ce-type", "")
	off := newTap(sampling.LinkAware(sdktrace.NeverSample()), tracing.WithTopologyParent())
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3 string) {
		msg := arrived(nats.Header{k1: {v1, v2}, k2: {v2}, k3: {v3}})
		handler := func(ctx context.Context, _ jetstream.Msg) error {
			if b := baggage.FromContext(ctx); b.Len() != 1 || b.Member("order.id").Value() != "own" {
				t.Errorf("baggage is %s", b)
			}
			return nil
		}
		ctx := withOrder(context.Background(), "own")
		_ = off.Process(ctx, msg, handler, tracing.WithUntrusted())
		_ = off.ProcessBatch(ctx, []jetstream.Msg{msg}, func(ctx context.Context, msgs []jetstream.Msg) error { return handler(ctx, msgs[0]) },
			tracing.WithUntrusted())
		if n := len(off.spans.Ended()); n != 0 {
			t.Fatalf("an untrusted producer had %d spans sampled", n)
		}

		on := newTap(sdktrace.AlwaysSample(), tracing.WithTopologyParent())
		_ = on.Process(ctx, msg, handler, tracing.WithUntrusted())
		s := on.only(t, "process orders.created.{order_id}")
		wantRoot(t, s)
		for _, l := range s.Links() {
			if l.SpanContext.TraceID() == s.SpanContext().TraceID() {
				t.Error("the span is in the trace of an untrusted producer")
			}
			wantAttrs(t, l.Attributes, map[string]string{"link.untrusted": "true", "link.trace_id": l.SpanContext.TraceID().String()})
		}
	})
}

// Whatever arrives: what is sent on of it keeps the producer and its baggage, and
// leaves out what is for the server.
func FuzzForward(f *testing.F) {
	f.Add("traceparent", valid, "baggage", "k=v", "Nats-Msg-Id", "1", "own=1")
	f.Add("Traceparent", valid, "tracestate", "a=1", "nats-expected-last-sequence", "1", "")
	f.Add("Status", "503", "Description", "x", "baggage", ",,=;", "a=%ff")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3, own string) {
		tap := newTap(sdktrace.AlwaysSample())
		msg := arrived(nats.Header{k1: {v1}, k2: {v2, v3}, k3: {v3}})
		before := tap.Link(msg.header)
		fwd := tap.Forward(forwarded{msg}, "orders.created.2")
		for name := range fwd.Header {
			if len(name) >= 5 && (name[:5] == "Nats-" || name[:5] == "nats-") || name == "Status" || name == "Description" {
				t.Errorf("header %q is for the server", name)
			}
		}
		ctx := context.Background()
		if b, err := baggage.Parse(own); err == nil {
			ctx = baggage.ContextWithBaggage(ctx, b)
		}
		_, send := tap.StartSend(ctx, fwd)
		send.End(nil, nil)
		s := tap.only(t, "publish orders.created.{order_id}")
		after := tap.Link(send.Msg.Header)
		if !before.SpanContext.IsValid() {
			if s.SpanKind() != trace.SpanKindProducer || after.SpanContext.SpanID() != s.SpanContext().SpanID() {
				t.Errorf("kind %v, and the copy carries %v", s.SpanKind(), after.SpanContext)
			}
			return
		}
		if !after.SpanContext.Equal(before.SpanContext) || s.SpanKind() != trace.SpanKindClient {
			t.Errorf("kind %v, producer %v became %v", s.SpanKind(), before.SpanContext, after.SpanContext)
		}
		wantLink(t, s, before.SpanContext)
		if got, want := tracing.HeaderCarrier(send.Msg.Header).Values("baggage"), tracing.HeaderCarrier(msg.header).Values("baggage"); len(got) != len(want) {
			t.Errorf("baggage %q became %q", want, got)
		}
	})
}

// forwarded is a message with a body.
type forwarded struct{ *received }

func (forwarded) Data() []byte { return nil }
