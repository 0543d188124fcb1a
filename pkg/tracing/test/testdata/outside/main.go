// Command outside is a service of another module: it publishes orders, and
// consumes them once with Consume and once with Fetch. It prints its spans.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/sampling"
)

func main() {
	exporter := tracetest.NewInMemoryExporter()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter),
		sdktrace.WithSampler(sampling.LinkAware(sdktrace.AlwaysSample()))))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(exporter.GetSpans()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	s.Start()
	defer s.Shutdown()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	tracer := tracing.New(tracing.WithConnection(nc), tracing.WithDestinationTemplate(func(string) string { return "orders.{id}" }))
	js = tracer.JetStream(js)
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}})
	if err != nil {
		return err
	}

	if _, err := js.Publish(ctx, "orders.1", nil); err != nil {
		return err
	}
	if _, err := js.PublishAsync("orders.2", nil); err != nil {
		return err
	}
	<-js.PublishAsyncComplete()

	payments, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "payments"})
	if err != nil {
		return err
	}
	handled := make(chan error, 2)
	consuming, err := payments.Consume(tracer.Handler(func(_ context.Context, msg jetstream.Msg) error {
		err := msg.Ack()
		handled <- err
		return err
	}, tracing.WithConsumerGroup("payments")))
	if err != nil {
		return err
	}
	for range 2 {
		select {
		case err := <-handled:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	consuming.Stop()
	<-consuming.Closed()

	mail, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "mail"})
	if err != nil {
		return err
	}
	batch, err := mail.Fetch(2, jetstream.FetchContext(ctx))
	if err != nil {
		return err
	}
	for msg := range batch.Messages() {
		err = errors.Join(err, tracer.Process(ctx, msg, func(_ context.Context, msg jetstream.Msg) error { return msg.Ack() },
			tracing.WithConsumerGroup("mail")))
	}
	return errors.Join(err, batch.Error(), tracer.Shutdown(ctx))
}
