package tracing_test

import (
	"context"
	"maps"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// The benchmarks measure the instrumentation of a publish, or of a handler, and
// nothing else: no server is asked. Ratios within one run are what counts.
//
//	Floor   raw OpenTelemetry: a bare span, its context injected into (or extracted
//	        from) a carrier of two fields; to consume, one link; no attributes
//	Honest  the same with our attributes, on the link too, and with nats.Header,
//	        copied to publish: what a careful author would write by hand
//	Tracer  this package
//
// Bounded rows have a subject that is its own template, so that all attributes of
// the span's start are known beforehand; the others end in an order's id. Ce rows have the six headers of CloudEvents on the message; copying them is
// no work of tracing's, but any tracing must do it.
var benchProviders = []struct {
	name     string
	provider trace.TracerProvider
}{
	{"Sampled", sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))},
	{"NeverSampled", sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))},
	{"NoOp", noProvider},
}

// twoFields is the cheapest carrier there can be.
type twoFields struct{ traceparent, tracestate string }

func (c *twoFields) Get(key string) string {
	switch key {
	case "traceparent":
		return c.traceparent
	case "tracestate":
		return c.tracestate
	}
	return ""
}

func (c *twoFields) Set(key, value string) {
	switch key {
	case "traceparent":
		c.traceparent = value
	case "tracestate":
		c.tracestate = value
	}
}

func (*twoFields) Keys() []string { return []string{"traceparent", "tracestate"} }

func cloudEvent() nats.Header {
	return nats.Header{
		"ce-id": {"orders.created.1"}, "ce-type": {"orders.created"}, "ce-source": {"orders"},
		"ce-specversion": {"1.0"}, "ce-time": {"2026-01-01T00:00:00Z"}, "content-type": {"application/json"},
	}
}

// bounded is a Tracer for subjects of low cardinality.
func benchBounded(p trace.TracerProvider) *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(p), tracing.WithMeterProvider(metricnoop.NewMeterProvider()), tracing.WithPropagator(w3c()),
		tracing.WithServerAddress("nats.example:4222"), tracing.WithDestinationTemplate(func(subject string) string { return subject }))
}

func benchTracer(p trace.TracerProvider, m metric.MeterProvider) *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(p), tracing.WithMeterProvider(m), tracing.WithPropagator(w3c()),
		tracing.WithServerAddress("nats.example:4222"),
		tracing.WithDestinationTemplate(func(string) string { return "orders.created.{order_id}" }))
}

func staticAttributes(operation string, class attribute.KeyValue) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(operation),
		class,
		semconv.MessagingDestinationName("orders.created.1"),
		semconv.MessagingDestinationTemplate("orders.created.{order_id}"),
		semconv.ServerAddress("nats.example"),
		semconv.ServerPort(4222),
	}
}

func BenchmarkProduce(b *testing.B) {
	ctx, w3c := context.Background(), w3c()
	ack := &jetstream.PubAck{Stream: "ORDERS", Sequence: 1}
	for _, p := range benchProviders {
		raw := p.provider.Tracer("bench")
		b.Run(p.name+"/Floor", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := raw.Start(ctx, "publish orders.created", trace.WithSpanKind(trace.SpanKindProducer))
				propagation.TraceContext{}.Inject(ctx, &twoFields{})
				span.End()
			}
		})
		for _, h := range []struct {
			name   string
			header nats.Header
		}{{"", nil}, {"Ce", cloudEvent()}} {
			msg := &nats.Msg{Subject: "orders.created.1", Header: h.header}
			b.Run(p.name+"/Honest"+h.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ctx, span := raw.Start(ctx, "publish orders.created", trace.WithSpanKind(trace.SpanKindProducer),
						trace.WithAttributes(staticAttributes("publish", semconv.MessagingOperationTypeSend)...))
					published := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: make(nats.Header, len(msg.Header)+1)}
					maps.Copy(published.Header, msg.Header)
					w3c.Inject(ctx, propagation.HeaderCarrier(published.Header))
					span.SetAttributes(
						attribute.String("messaging.nats.stream.name", ack.Stream),
						attribute.Int64("messaging.nats.message.stream_sequence", int64(ack.Sequence)),
						semconv.MessagingMessageID("orders.created.1"),
					)
					span.End()
				}
			})
			tracer := benchTracer(p.provider, metricnoop.NewMeterProvider())
			b.Run(p.name+"/Tracer"+h.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, send := tracer.StartSend(ctx, msg)
					send.End(ack, nil)
				}
			})
		}
		bounded := benchBounded(p.provider)
		b.Run(p.name+"/TracerBounded", func(b *testing.B) {
			b.ReportAllocs()
			msg := &nats.Msg{Subject: "orders.created"}
			for b.Loop() {
				_, send := bounded.StartSend(ctx, msg)
				send.End(ack, nil)
			}
		})
		measured := benchTracer(p.provider, sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
		msg := &nats.Msg{Subject: "orders.created.1"}
		b.Run(p.name+"/TracerMetrics", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, send := measured.StartSend(ctx, msg)
				send.End(ack, nil)
			}
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	ctx, w3c := context.Background(), w3c()
	for _, p := range benchProviders {
		raw := p.provider.Tracer("bench")
		b.Run(p.name+"/Floor", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				carrier := &twoFields{traceparent: valid}
				sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, carrier))
				_, span := raw.Start(ctx, "process orders.created", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: sc}))
				span.End()
			}
		})
		for _, h := range []struct {
			name   string
			header nats.Header
		}{{"", nats.Header{}}, {"Ce", cloudEvent()}} {
			h.header.Set("traceparent", valid)
			msg := arrived(h.header)
			b.Run(p.name+"/Honest"+h.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					sc := trace.SpanContextFromContext(w3c.Extract(ctx, propagation.HeaderCarrier(msg.Headers())))
					link := []attribute.KeyValue{
						attribute.String("link.trace_id", sc.TraceID().String()),
						attribute.String("link.relationship", "triggered_by"),
						semconv.MessagingDestinationName("orders.created.1"),
					}
					if h.name != "" {
						link = append(link, attribute.String("link.event_type", msg.Headers().Get("ce-type")),
							semconv.MessagingMessageID(msg.Headers().Get("ce-id")))
					}
					_, span := raw.Start(ctx, "process orders.created", trace.WithSpanKind(trace.SpanKindConsumer),
						trace.WithAttributes(append(staticAttributes("process", semconv.MessagingOperationTypeProcess),
							semconv.MessagingConsumerGroupName("payments"))...),
						trace.WithLinks(trace.Link{SpanContext: sc, Attributes: link}))
					md, err := msg.Metadata()
					if err != nil {
						b.Fatal(err)
					}
					span.SetAttributes(
						attribute.String("messaging.nats.stream.name", md.Stream),
						attribute.Int64("messaging.nats.message.stream_sequence", int64(md.Sequence.Stream)),
						attribute.Int64("messaging.nats.message.consumer_sequence", int64(md.Sequence.Consumer)),
						attribute.Int64("messaging.nats.message.delivery_count", int64(md.NumDelivered)),
						semconv.MessagingMessageID("orders.created.1"),
					)
					span.End()
				}
			})
			tracer := benchTracer(p.provider, metricnoop.NewMeterProvider())
			b.Run(p.name+"/Tracer"+h.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = tracer.Process(ctx, msg, nothing)
				}
			})
		}
		bounded := benchBounded(p.provider)
		b.Run(p.name+"/TracerBounded", func(b *testing.B) {
			b.ReportAllocs()
			msg := arrived(nats.Header{"traceparent": {valid}})
			msg.subject = "orders.created"
			for b.Loop() {
				_ = bounded.Process(ctx, msg, nothing)
			}
		})
		measured := benchTracer(p.provider, sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
		msg := arrived(nats.Header{"traceparent": {valid}})
		b.Run(p.name+"/TracerMetrics", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = measured.Process(ctx, msg, nothing)
			}
		})
	}
}
