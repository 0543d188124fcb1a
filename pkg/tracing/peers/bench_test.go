package peers

import (
	"context"
	"maps"
	"strings"
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
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/pkg/tracing"
)

// The benchmarks measure the instrumentation of one publish or one handler; no
// server takes part. Compare the results of one run only.
//
//	Floor   raw OpenTelemetry: a span, and its context in a carrier of two fields
//	        (produce), or the context from there and a link (consume)
//	Honest  the honest floor: the same with nats.Header, a copied message and our
//	        attributes, as a careful author would write it for one service
//	Tracer  this package
//
// Ce rows have a message with the six headers of CloudEvents. Metrics rows also
// record metrics.
var providers = []struct {
	name     string
	provider trace.TracerProvider
}{
	{"Sampled", sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))},
	{"NeverSampled", sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))},
	{"NoOp", noop.NewTracerProvider()},
}

var w3c = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

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

// verbatim is the carrier of a careful author.
type verbatim nats.Header

func (c verbatim) Get(key string) string {
	if vs := c[key]; len(vs) > 0 {
		return vs[0]
	}
	return ""
}
func (c verbatim) Values(key string) []string { return c[key] }
func (c verbatim) Set(key, value string)      { c[key] = []string{value} }
func (c verbatim) Keys() (keys []string) {
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

func cloudEvent() nats.Header {
	return nats.Header{
		"ce-id": {"orders.created.1"}, "ce-type": {"orders.created"}, "ce-source": {"orders"},
		"ce-specversion": {"1.0"}, "ce-time": {"2026-01-01T00:00:00Z"}, "content-type": {"application/json"},
	}
}

// delivered is a message outside any server.
type delivered struct {
	jetstream.Msg
	header nats.Header
}

func (d delivered) Headers() nats.Header { return d.header }
func (delivered) Subject() string        { return "orders.created.1" }
func (delivered) Data() []byte           { return nil }
func (delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Stream: "ORDERS", Consumer: "payments", NumDelivered: 1}, nil
}

func newTracer(p trace.TracerProvider, m metric.MeterProvider) *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(p), tracing.WithMeterProvider(m), tracing.WithPropagators(w3c),
		tracing.WithServerAddress("nats.example:4222"),
		tracing.WithDestinationTemplate(func(string) string { return "orders.created.{order_id}" }))
}

// spanName names a span by its operation and the template of its subject, since a
// service has more than one.
func spanName(operation, subject string) string {
	return operation + " " + subject[:strings.LastIndexByte(subject, '.')]
}

func startAttributes(operation string, class attribute.KeyValue) []attribute.KeyValue {
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

func benchmarkOwnProduce(b *testing.B, name string, provider trace.TracerProvider) {
	ctx, raw := context.Background(), provider.Tracer("bench")
	ack := &jetstream.PubAck{Stream: "ORDERS", Sequence: 1}
	b.Run(name+"/Floor", func(b *testing.B) {
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
		b.Run(name+"/Honest"+h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := raw.Start(ctx, spanName("publish", msg.Subject), trace.WithSpanKind(trace.SpanKindProducer),
					trace.WithAttributes(startAttributes("publish", semconv.MessagingOperationTypeSend)...))
				published := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: make(nats.Header, len(msg.Header)+1)}
				maps.Copy(published.Header, msg.Header)
				w3c.Inject(ctx, verbatim(published.Header))
				span.SetAttributes(
					attribute.String("messaging.nats.stream.name", ack.Stream),
					attribute.Int64("messaging.nats.message.stream_sequence", int64(ack.Sequence)),
					semconv.MessagingMessageID("orders.created.1"),
				)
				span.End()
			}
		})
		tracer := newTracer(provider, metricnoop.NewMeterProvider())
		b.Run(name+"/Tracer"+h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, send := tracer.StartSend(ctx, msg)
				send.End(ack, nil)
			}
		})
	}
	measured := newTracer(provider, sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
	b.Run(name+"/TracerMetrics", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, send := measured.StartSend(ctx, &nats.Msg{Subject: "orders.created.1"})
			send.End(ack, nil)
		}
	})
}

func benchmarkOwnConsume(b *testing.B, name string, provider trace.TracerProvider) {
	ctx, raw := context.Background(), provider.Tracer("bench")
	nothing := func(context.Context, jetstream.Msg) error { return nil }
	group := tracing.WithConsumerGroup("payments")
	b.Run(name+"/Floor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, &twoFields{traceparent: traceparent}))
			_, span := raw.Start(ctx, "process orders.created", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: sc}))
			span.End()
		}
	})
	for _, h := range []struct {
		name   string
		header nats.Header
	}{{"", nats.Header{}}, {"Ce", cloudEvent()}} {
		h.header["traceparent"] = []string{traceparent}
		var msg jetstream.Msg = delivered{header: h.header}
		b.Run(name+"/Honest"+h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx := w3c.Extract(ctx, verbatim(msg.Headers())) // the handler gets the baggage
				sc := trace.SpanContextFromContext(ctx)
				link := []attribute.KeyValue{
					attribute.String("link.trace_id", sc.TraceID().String()),
					attribute.String("link.relationship", "triggered_by"),
					semconv.MessagingDestinationName("orders.created.1"),
				}
				if h.name != "" {
					link = append(link, attribute.String("link.event_type", msg.Headers().Get("ce-type")),
						semconv.MessagingMessageID(msg.Headers().Get("ce-id")))
				}
				_, span := raw.Start(ctx, spanName("process", msg.Subject()), trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
					trace.WithAttributes(append(startAttributes("process", semconv.MessagingOperationTypeProcess),
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
		tracer := newTracer(provider, metricnoop.NewMeterProvider())
		b.Run(name+"/Tracer"+h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = tracer.Process(ctx, msg, nothing, group)
			}
		})
	}
	measured := newTracer(provider, sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
	b.Run(name+"/TracerMetrics", func(b *testing.B) {
		b.ReportAllocs()
		var msg jetstream.Msg = delivered{header: nats.Header{"traceparent": {traceparent}}}
		for b.Loop() {
			_ = measured.Process(ctx, msg, nothing, group)
		}
	})
}
