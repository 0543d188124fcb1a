package tracing_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ordertrail/pkg/tracing"
)

var benchProviders = []struct {
	name     string
	provider trace.TracerProvider
}{
	{"Sampled", sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))},
	{"NeverSampled", sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))},
	{"NoOp", noProvider},
}

func benchHeader() nats.Header {
	return nats.Header{
		"ce-id": {"orders.created.1"}, "ce-type": {"orders.created"}, "ce-source": {"orders"},
		"ce-specversion": {"1.0"}, "ce-time": {"2026-01-01T00:00:00Z"}, "content-type": {"application/json"},
	}
}

// BenchmarkProduce is the instrumentation of a publish without the publish.
// Its floor is a bare span and its injection into a carrier of two fields.
func BenchmarkProduce(b *testing.B) {
	ctx := context.Background()
	for _, p := range benchProviders {
		b.Run(p.name+"/Floor", func(b *testing.B) {
			b.ReportAllocs()
			tracer := p.provider.Tracer("bench")
			for b.Loop() {
				ctx, span := tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer))
				propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier{})
				span.End()
			}
		})
		b.Run(p.name+"/Tracer", func(b *testing.B) {
			b.ReportAllocs()
			tracer := tracing.New(tracing.WithTracerProvider(p.provider), tracing.WithPropagator(w3c()),
				tracing.WithDestinationTemplate(func(string) string { return "orders.created.{order_id}" }))
			msg := &nats.Msg{Subject: "orders.created.1", Header: benchHeader()}
			ack := &jetstream.PubAck{Stream: "ORDERS", Sequence: 1}
			for b.Loop() {
				_, send := tracer.StartSend(ctx, msg)
				send.End(ack, nil)
			}
		})
	}
}

// BenchmarkConsume is the instrumentation of a handler that does nothing. Its
// floor is the extraction and a bare span with one link.
func BenchmarkConsume(b *testing.B) {
	ctx := context.Background()
	for _, p := range benchProviders {
		b.Run(p.name+"/Floor", func(b *testing.B) {
			b.ReportAllocs()
			tracer := p.provider.Tracer("bench")
			carrier := propagation.MapCarrier{"traceparent": valid}
			for b.Loop() {
				sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, carrier))
				_, span := tracer.Start(ctx, "process", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: sc}))
				span.End()
			}
		})
		b.Run(p.name+"/Tracer", func(b *testing.B) {
			b.ReportAllocs()
			tracer := tracing.New(tracing.WithTracerProvider(p.provider), tracing.WithPropagator(w3c()),
				tracing.WithDestinationTemplate(func(string) string { return "orders.created.{order_id}" }))
			header := benchHeader()
			header.Set("traceparent", valid)
			msg := arrived(header)
			for b.Loop() {
				_ = tracer.Process(ctx, msg, nothing)
			}
		})
	}
}
