package peers

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
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
// record the duration and the number of messages, with the attributes that the
// conventions list for each.
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
func (delivered) Reply() string          { return "$JS.ACK.ORDERS.payments.1.1.1.1.0" }
func (delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Stream: "ORDERS", Consumer: "payments", NumDelivered: 1}, nil
}

func newTracer(p trace.TracerProvider, m metric.MeterProvider) *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(p), tracing.WithMeterProvider(m), tracing.WithPropagators(w3c),
		tracing.WithServerAddress("nats.example:4222"),
		tracing.WithDestinationTemplate(template))
}

// template is the template of a subject, since a service has more than one subject.
func template(subject string) string {
	return subject[:strings.LastIndexByte(subject, '.')] + ".{order_id}"
}

func startAttributes(operation, subject, template string, class attribute.KeyValue) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(operation),
		class,
		semconv.MessagingDestinationName(subject),
		semconv.MessagingDestinationTemplate(template),
		semconv.ServerAddress("nats.example"),
		semconv.ServerPort(4222),
	}
}

// meters are the metrics of a careful author.
type meters struct {
	duration metric.Float64Histogram
	messages metric.Int64Counter
}

func newMeters(p metric.MeterProvider, duration, messages string) meters {
	m := p.Meter("bench")
	d, err := m.Float64Histogram(duration, metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(
		0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	if err != nil {
		panic(err)
	}
	n, err := m.Int64Counter(messages, metric.WithUnit("{message}"))
	if err != nil {
		panic(err)
	}
	return meters{d, n}
}

// record records one message. Only the duration of client operations has the
// operation's type.
func (m meters) record(ctx context.Context, start time.Time, operation, template string, more ...attribute.KeyValue) {
	attrs := append([]attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(operation),
		semconv.MessagingDestinationTemplate(template),
		semconv.ServerAddress("nats.example"),
		semconv.ServerPort(4222),
	}, more...)
	m.messages.Add(ctx, 1, metric.WithAttributes(attrs...))
	if operation == "publish" {
		attrs = append(attrs, semconv.MessagingOperationTypeSend)
	}
	m.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(attrs...))
}

func newMeterProvider() metric.MeterProvider {
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
}

// stream acknowledges without a server.
type stream struct{ ack *jetstream.PubAck }

func (s stream) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return s.ack, nil
}

// messageID is the id that ours records, too.
func messageID(header nats.Header, sequence uint64) string {
	if id := header.Get("ce-id"); id != "" {
		return id
	}
	return strconv.FormatUint(sequence, 10)
}

// honestPublish publishes as a careful author would.
func honestPublish(ctx context.Context, raw trace.Tracer, m *meters, js tracing.Publisher, msg *nats.Msg) (*jetstream.PubAck, error) {
	var start time.Time
	if m != nil {
		start = time.Now()
	}
	template := template(msg.Subject)
	ctx, span := raw.Start(ctx, "publish "+template, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(startAttributes("publish", msg.Subject, template, semconv.MessagingOperationTypeSend)...))
	defer span.End()
	published := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: make(nats.Header, len(msg.Header)+1)}
	maps.Copy(published.Header, msg.Header)
	w3c.Inject(ctx, verbatim(published.Header))
	ack, err := js.PublishMsg(ctx, published)
	if err != nil {
		span.SetStatus(codes.Error, "failed")
		return nil, err
	}
	span.SetAttributes(
		attribute.String("messaging.nats.stream.name", ack.Stream),
		attribute.Int64("messaging.nats.message.stream_sequence", int64(ack.Sequence)),
		semconv.MessagingMessageID(messageID(msg.Header, ack.Sequence)),
	)
	if m != nil {
		m.record(ctx, start, "publish", template)
	}
	return ack, nil
}

// honestProcess handles a message as a careful author would.
func honestProcess(ctx context.Context, raw trace.Tracer, m *meters, cloudEvents bool, msg jetstream.Msg, handler func(context.Context, jetstream.Msg) error) error {
	var start time.Time
	if m != nil {
		start = time.Now()
	}
	template, header := template(msg.Subject()), msg.Headers()
	ctx = w3c.Extract(ctx, verbatim(header)) // the handler gets the baggage
	sc := trace.SpanContextFromContext(ctx)
	link := []attribute.KeyValue{
		attribute.String("link.trace_id", sc.TraceID().String()),
		attribute.String("link.relationship", "triggered_by"),
		semconv.MessagingDestinationName(msg.Subject()),
	}
	if cloudEvents {
		link = append(link, attribute.String("link.event_type", header.Get("ce-type")), semconv.MessagingMessageID(header.Get("ce-id")))
	}
	ctx, span := raw.Start(ctx, "process "+template, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(append(startAttributes("process", msg.Subject(), template, semconv.MessagingOperationTypeProcess),
			semconv.MessagingConsumerGroupName("payments"))...),
		trace.WithLinks(trace.Link{SpanContext: sc, Attributes: link}))
	defer span.End()
	md, err := msg.Metadata()
	if err != nil {
		return err
	}
	span.SetAttributes(
		attribute.String("messaging.nats.stream.name", md.Stream),
		attribute.Int64("messaging.nats.message.stream_sequence", int64(md.Sequence.Stream)),
		attribute.Int64("messaging.nats.message.consumer_sequence", int64(md.Sequence.Consumer)),
		attribute.Int64("messaging.nats.message.delivery_count", int64(md.NumDelivered)),
		semconv.MessagingMessageID(messageID(header, md.Sequence.Stream)),
	)
	err = handler(ctx, msg)
	if err != nil {
		span.SetStatus(codes.Error, "failed")
	}
	if m != nil {
		m.record(ctx, start, "process", template, semconv.MessagingConsumerGroupName("payments"))
	}
	return err
}

// rows are the messages and the metrics of a group of benchmarks.
func rows() []row {
	return []row{{"", nats.Header{}, false}, {"Ce", cloudEvent(), false}, {"Metrics", nats.Header{}, true}}
}

type row struct {
	name    string
	header  nats.Header
	metrics bool
}

func benchmarkOwnProduce(b *testing.B, name string, provider trace.TracerProvider) {
	ctx, raw := context.Background(), provider.Tracer("bench")
	var js tracing.Publisher = stream{&jetstream.PubAck{Stream: "ORDERS", Sequence: 1}}
	b.Run(name+"/Floor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ctx, span := raw.Start(ctx, "publish orders.created", trace.WithSpanKind(trace.SpanKindProducer))
			propagation.TraceContext{}.Inject(ctx, &twoFields{})
			span.End()
		}
	})
	for _, r := range rows() {
		msg := &nats.Msg{Subject: "orders.created.1", Header: r.header}
		var honest *meters
		measured := metric.MeterProvider(metricnoop.NewMeterProvider())
		if r.metrics {
			m := newMeters(newMeterProvider(), "messaging.client.operation.duration", "messaging.client.sent.messages")
			honest, measured = &m, newMeterProvider()
		}
		tracer := newTracer(provider, measured)
		b.Run(name+"/Honest"+r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = honestPublish(ctx, raw, honest, js, msg)
			}
		})
		b.Run(name+"/Tracer"+r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = tracer.Publish(ctx, js, msg)
			}
		})
	}
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
	for _, r := range rows() {
		r.header["traceparent"] = []string{traceparent}
		var msg jetstream.Msg = delivered{header: r.header}
		var honest *meters
		measured := metric.MeterProvider(metricnoop.NewMeterProvider())
		if r.metrics {
			m := newMeters(newMeterProvider(), "messaging.process.duration", "messaging.client.consumed.messages")
			honest, measured = &m, newMeterProvider()
		}
		tracer := newTracer(provider, measured)
		b.Run(name+"/Honest"+r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = honestProcess(ctx, raw, honest, r.name == "Ce", msg, nothing)
			}
		})
		b.Run(name+"/Tracer"+r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = tracer.Process(ctx, msg, nothing, group)
			}
		})
	}
}
