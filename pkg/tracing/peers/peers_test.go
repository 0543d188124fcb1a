package peers

import (
	"context"
	"testing"

	"github.com/IBM/sarama"
	"github.com/dnwe/otelsarama"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/pkg/tracing"
)

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
	if key == "traceparent" {
		return c.traceparent
	}
	return ""
}

func (c *twoFields) Set(key, value string) {
	if key == "traceparent" {
		c.traceparent = value
	}
}

func (*twoFields) Keys() []string { return []string{"traceparent", "tracestate"} }

// BenchmarkProduce measures the instrumentation of one message that is published:
// no broker is asked.
func BenchmarkProduce(b *testing.B) {
	ctx := context.Background()
	for _, p := range providers {
		raw := p.provider.Tracer("bench")
		b.Run(p.name+"/Floor", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := raw.Start(ctx, "publish orders.created", trace.WithSpanKind(trace.SpanKindProducer))
				propagation.TraceContext{}.Inject(ctx, &twoFields{})
				span.End()
			}
		})
		b.Run(p.name+"/Tracer", func(b *testing.B) {
			b.ReportAllocs()
			tracer := tracing.New(tracing.WithTracerProvider(p.provider), tracing.WithPropagator(w3c),
				tracing.WithDestinationTemplate(func(subject string) string { return subject }))
			msg, ack := &nats.Msg{Subject: "orders.created"}, &jetstream.PubAck{Stream: "ORDERS", Sequence: 1}
			for b.Loop() {
				_, send := tracer.StartSend(ctx, msg)
				send.End(ack, nil)
			}
		})
		b.Run(p.name+"/Kotel", func(b *testing.B) {
			b.ReportAllocs()
			tracer := kotel.NewTracer(kotel.TracerProvider(p.provider), kotel.TracerPropagator(w3c))
			for b.Loop() {
				r := &kgo.Record{Topic: "orders.created", Context: ctx}
				tracer.OnProduceRecordBuffered(r)
				tracer.OnProduceRecordUnbuffered(r, nil)
			}
		})
		b.Run(p.name+"/Otelsarama", func(b *testing.B) {
			b.ReportAllocs()
			config := sarama.NewConfig()
			config.Version = sarama.V2_0_0_0
			producer := otelsarama.WrapSyncProducer(config, idle{}, otelsarama.WithTracerProvider(p.provider), otelsarama.WithPropagators(w3c))
			for b.Loop() {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "orders.created"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// idle is a producer that does nothing.
type idle struct{ sarama.SyncProducer }

func (idle) SendMessage(*sarama.ProducerMessage) (int32, int64, error) { return 0, 1, nil }

// BenchmarkConsume measures the instrumentation of one message that is handled.
// Kotel makes a receive and a process span. Otelsarama hands messages over a
// channel, which is part of its figure.
func BenchmarkConsume(b *testing.B) {
	ctx := context.Background()
	for _, p := range providers {
		raw := p.provider.Tracer("bench")
		b.Run(p.name+"/Floor", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, &twoFields{traceparent: traceparent}))
				_, span := raw.Start(ctx, "process orders.created", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: sc}))
				span.End()
			}
		})
		b.Run(p.name+"/Tracer", func(b *testing.B) {
			b.ReportAllocs()
			tracer := tracing.New(tracing.WithTracerProvider(p.provider), tracing.WithPropagator(w3c),
				tracing.WithDestinationTemplate(func(subject string) string { return subject }))
			var msg jetstream.Msg = delivered{header: nats.Header{"traceparent": {traceparent}}}
			for b.Loop() {
				_ = tracer.Process(ctx, msg, func(context.Context, jetstream.Msg) error { return nil })
			}
		})
		b.Run(p.name+"/Kotel", func(b *testing.B) {
			b.ReportAllocs()
			tracer := kotel.NewTracer(kotel.TracerProvider(p.provider), kotel.TracerPropagator(w3c))
			headers := []kgo.RecordHeader{{Key: "traceparent", Value: []byte(traceparent)}}
			for b.Loop() {
				r := &kgo.Record{Topic: "orders.created", Context: ctx, Headers: headers[:1:1]}
				tracer.OnFetchRecordBuffered(r)
				tracer.OnFetchRecordUnbuffered(r, true)
				_, span := tracer.WithProcessSpan(r)
				span.End()
			}
		})
		b.Run(p.name+"/Otelsarama", func(b *testing.B) {
			b.ReportAllocs()
			messages := make(chan *sarama.ConsumerMessage)
			consumer := otelsarama.WrapPartitionConsumer(partition{messages: messages}, otelsarama.WithTracerProvider(p.provider), otelsarama.WithPropagators(w3c))
			headers := []*sarama.RecordHeader{{Key: []byte("traceparent"), Value: []byte(traceparent)}}
			for b.Loop() {
				messages <- &sarama.ConsumerMessage{Topic: "orders.created", Headers: headers[:1:1]}
				<-consumer.Messages()
			}
			close(messages)
		})
	}
}

// delivered is a message outside any server.
type delivered struct {
	jetstream.Msg
	header nats.Header
}

func (d delivered) Headers() nats.Header { return d.header }
func (delivered) Subject() string        { return "orders.created" }
func (delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Stream: "ORDERS", Consumer: "payments", NumDelivered: 1}, nil
}

// partition is a partition of which messages come from a channel.
type partition struct {
	sarama.PartitionConsumer
	messages chan *sarama.ConsumerMessage
}

func (p partition) Messages() <-chan *sarama.ConsumerMessage { return p.messages }
