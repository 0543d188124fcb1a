package peers

import (
	"context"
	"testing"

	"github.com/IBM/sarama"
	"github.com/dnwe/otelsarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
)

// BenchmarkProduce measures the instrumentation of one message that is published:
// no broker is asked.
func BenchmarkProduce(b *testing.B) {
	ctx := context.Background()
	for _, p := range providers {
		benchmarkOwnProduce(b, p.name, p.provider)
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
		benchmarkOwnConsume(b, p.name, p.provider)
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

// partition is a partition of which messages come from a channel.
type partition struct {
	sarama.PartitionConsumer
	messages chan *sarama.ConsumerMessage
}

func (p partition) Messages() <-chan *sarama.ConsumerMessage { return p.messages }
