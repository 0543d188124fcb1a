package tracing_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

func ExampleTracer_Publish() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.TraceContext{}),
		tracing.WithDestinationTemplate(exampleTemplate),
	)

	ack, err := tracer.Publish(context.Background(), js, &nats.Msg{Subject: "orders.created.1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("stored as", ack.Sequence)
	// Output:
	// publish orders.created: root, 0 links
	// stored as 1
}

func ExampleTracer_Process() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.TraceContext{}),
		tracing.WithDestinationTemplate(exampleTemplate),
	)
	ctx := context.Background()
	if _, err := tracer.Publish(ctx, js, &nats.Msg{Subject: "orders.created.1"}); err != nil {
		fmt.Println(err)
		return
	}

	msg := exampleMessages(js, 1)[0]
	err := tracer.Process(ctx, msg, func(ctx context.Context, msg jetstream.Msg) error {
		fmt.Println("charging", msg.Subject())
		return msg.Ack()
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// publish orders.created: root, 0 links
	// charging orders.created.1
	// ack orders.created: child, 0 links
	// process orders.created: root, 1 links
}

func ExampleTracer_ProcessBatch() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.TraceContext{}),
	)
	ctx := context.Background()
	for _, id := range []string{"1", "2", "3"} {
		if _, err := tracer.Publish(ctx, js, &nats.Msg{Subject: "orders.created." + id}); err != nil {
			fmt.Println(err)
			return
		}
	}

	count := func(_ context.Context, msgs []jetstream.Msg) error {
		fmt.Println("counting", len(msgs))
		return nil
	}
	orderID := func(msg jetstream.Msg) []attribute.KeyValue {
		_, id, _ := strings.Cut(msg.Subject(), "orders.created.")
		return []attribute.KeyValue{attribute.String("order.id", id)}
	}
	if err := tracer.ProcessBatch(ctx, exampleMessages(js, 3), count, tracing.LinkAttributes(orderID)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// publish: root, 0 links
	// publish: root, 0 links
	// publish: root, 0 links
	// counting 3
	// process ORDERS: root, 3 links
}

func ExampleTracer_Link() {
	provider := examplePrinter()
	tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(propagation.TraceContext{}))

	// Headers of two stored messages that together conclude an order.
	paid := nats.Header{"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	reserved := nats.Header{"traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
	_, span := provider.Tracer("fulfillment").Start(context.Background(), "fulfill order", trace.WithLinks(
		tracer.Link(paid, tracing.RelationshipKey.String("payment_confirmation")),
		tracer.Link(reserved, tracing.RelationshipKey.String("inventory_reservation")),
	))
	span.End()
	// Output:
	// fulfill order: root, 2 links
}

func ExampleTracer_Forward() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(tracing.WithTracerProvider(examplePrinter()), tracing.WithPropagator(propagation.TraceContext{}))
	ctx := context.Background()
	failed := &nats.Msg{Subject: "orders.created.1", Header: nats.Header{"Nats-Msg-Id": {"1"}}}
	if _, err := tracer.Publish(ctx, js, failed); err != nil {
		fmt.Println(err)
		return
	}

	// The copy is no duplicate, and leads back to the first producer.
	msg := exampleMessages(js, 1)[0]
	ack, err := tracer.Publish(ctx, js, tracer.Forward(msg, "orders.dead.1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("duplicate:", ack.Duplicate)
	// Output:
	// publish: root, 0 links
	// publish: root, 1 links
	// duplicate: false
}

func ExampleTracer_Receive() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.TraceContext{}),
		tracing.WithDestinationTemplate(exampleTemplate),
	)
	ctx := context.Background()
	if _, err := tracer.Publish(ctx, js, &nats.Msg{Subject: "orders.created.1"}); err != nil {
		fmt.Println(err)
		return
	}

	consumer := exampleConsumer(js)
	msg, err := tracer.Receive(ctx, func() (jetstream.Msg, error) { return consumer.Next(jetstream.FetchContext(ctx)) })
	if err != nil {
		fmt.Println(err) // nats.ErrTimeout: there was none, and there is no span
		return
	}
	_ = tracer.Process(ctx, msg, func(_ context.Context, msg jetstream.Msg) error { return msg.Ack() })
	// Output:
	// publish orders.created: root, 0 links
	// receive orders.created: root, 1 links
	// ack orders.created: child, 0 links
	// process orders.created: root, 1 links
}

func ExampleTracer_ReceiveBatch() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(tracing.WithTracerProvider(examplePrinter()), tracing.WithPropagator(propagation.TraceContext{}))
	ctx := context.Background()
	for _, id := range []string{"1", "2"} {
		if _, err := tracer.Publish(ctx, js, &nats.Msg{Subject: "orders.created." + id}); err != nil {
			fmt.Println(err)
			return
		}
	}

	consumer := exampleConsumer(js)
	msgs, err := tracer.ReceiveBatch(ctx, func() (jetstream.MessageBatch, error) { return consumer.Fetch(2) })
	if err != nil {
		fmt.Println(err)
	}
	_ = tracer.ProcessBatch(ctx, msgs, func(context.Context, []jetstream.Msg) error { return nil })
	// Output:
	// publish: root, 0 links
	// publish: root, 0 links
	// receive ORDERS: root, 2 links
	// process ORDERS: root, 2 links
}

// Asynchronous publishing: the span ends when the server has answered.
func ExampleTracer_StartSend() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(tracing.WithTracerProvider(examplePrinter()), tracing.WithPropagator(propagation.TraceContext{}))

	_, send := tracer.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1"})
	future, err := js.PublishMsgAsync(send.Msg)
	if err != nil {
		send.End(nil, err)
		return
	}
	fmt.Println("published", send.Msg.Header.Get("traceparent") != "")
	select {
	case ack := <-future.Ok():
		send.End(ack, nil)
	case err := <-future.Err():
		send.End(nil, err)
	}
	// Output:
	// published true
	// publish: root, 0 links
}

// A publisher that finds its message stored already may call that a success.
func ExampleSend_End() {
	js, stop := exampleStream()
	defer stop()
	tracer := tracing.New(tracing.WithTracerProvider(exampleAttributes("messaging.nats.message.stream_sequence", "error.type")))
	once := jetstream.WithExpectLastSequenceForSubject(0, "orders.created.1")

	for range 2 {
		_, send := tracer.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1"})
		ack, err := js.PublishMsg(context.Background(), send.Msg, once)
		if err != nil {
			err = nil // the earlier attempt is what holds the place
		}
		send.End(ack, err)
	}
	_, err := tracer.Publish(context.Background(), js, &nats.Msg{Subject: "orders.created.1"}, once)
	fmt.Println(err)
	// Output:
	// publish stream_sequence=1
	// publish
	// publish type=wrong_last_sequence
	// nats: nats: API error: code=400 err_code=10071 description=wrong last sequence: 1
}

func ExampleTracer_Shutdown() {
	provider := examplePrinter()
	tracer := tracing.New(tracing.WithTracerProvider(provider))
	_, send := tracer.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1"})

	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("out of patience"))
	fmt.Println(tracer.Shutdown(ctx))

	send.End(nil, nil) // the server has answered
	fmt.Println(tracer.Shutdown(context.Background()))
	fmt.Println(provider.Shutdown(context.Background()))
	// Output:
	// tracing: 1 handlers and sends are still under way: out of patience
	// publish: root, 0 links
	// <nil>
	// <nil>
}

func exampleTemplate(subject string) string {
	if tokens := strings.Split(subject, "."); len(tokens) == 3 {
		return tokens[0] + "." + tokens[1] + ".{order_id}"
	}
	return ""
}

// printer prints each span that ends.
type printer struct{}

func (printer) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (printer) Shutdown(context.Context) error                  { return nil }
func (printer) ForceFlush(context.Context) error                { return nil }
func (printer) OnEnd(s sdktrace.ReadOnlySpan) {
	place := "root"
	if s.Parent().IsValid() {
		place = "child"
	}
	fmt.Printf("%s: %s, %d links\n", s.Name(), place, len(s.Links()))
}

func examplePrinter() *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(printer{}))
}

// exampleStream returns a connection to a server in this process that has a
// stream ORDERS.
func exampleStream() (jetstream.JetStream, func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		panic(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		panic("server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		panic(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	config := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, Storage: jetstream.MemoryStorage}
	if _, err := js.CreateStream(context.Background(), config); err != nil {
		panic(err)
	}
	return js, func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
		_ = os.RemoveAll(dir)
	}
}

func exampleConsumer(js jetstream.JetStream) jetstream.Consumer {
	c, err := js.CreateConsumer(context.Background(), "ORDERS", jetstream.ConsumerConfig{Durable: "payments"})
	if err != nil {
		panic(err)
	}
	return c
}

func exampleMessages(js jetstream.JetStream, n int) []jetstream.Msg {
	batch, err := exampleConsumer(js).Fetch(n)
	if err != nil {
		panic(err)
	}
	var msgs []jetstream.Msg
	for msg := range batch.Messages() {
		msgs = append(msgs, msg)
	}
	return msgs
}
