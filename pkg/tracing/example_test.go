package tracing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// The examples do without a server: stream stores nothing, and newMessage makes
// messages. Package tracing/test has a service on a real server.

// stream is a jetstream.JetStream that accepts every message.
type stream struct{ jetstream.JetStream }

func (stream) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return &jetstream.PubAck{Stream: "ORDERS", Sequence: 1}, nil
}
func (stream) PublishMsgAsync(*nats.Msg, ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return nil, jetstream.ErrConnectionClosed
}
func (stream) Conn() *nats.Conn { return nil }

// message is a message of stream ORDERS.
type message struct {
	jetstream.Msg
	header nats.Header
}

func (m message) Headers() nats.Header { return m.header }
func (message) Subject() string        { return "orders.created.1" }
func (message) Data() []byte           { return []byte("{}") }
func (message) Ack() error             { return nil }
func (message) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Stream: "ORDERS", Consumer: "payments", NumDelivered: 1}, nil
}

func newMessage() jetstream.Msg {
	return message{header: nats.Header{
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"baggage":     {"order.id=1"},
	}}
}

// batch is a jetstream.MessageBatch.
type batch chan jetstream.Msg

func (b batch) Messages() <-chan jetstream.Msg { return b }
func (batch) Error() error                     { return nil }

func fetch() (jetstream.MessageBatch, error) {
	b := make(batch, 2)
	b <- newMessage()
	b <- newMessage()
	close(b)
	return b, nil
}

// bucket is an empty jetstream.KeyValue.
type bucket struct{ jetstream.KeyValue }

func (bucket) Bucket() string { return "settings" }
func (bucket) Get(context.Context, string) (jetstream.KeyValueEntry, error) {
	return nil, jetstream.ErrKeyNotFound
}

func charge(context.Context, jetstream.Msg) error          { return nil }
func chargeAll(context.Context, []jetstream.Msg) error     { return nil }
func acknowledge(_ context.Context, m jetstream.Msg) error { return m.Ack() }

// print prints the spans that end, with the attributes of these names.
func print(names ...attribute.Key) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(printer(names)))
}

type printer []attribute.Key

func (printer) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (printer) Shutdown(context.Context) error                  { return nil }
func (printer) ForceFlush(context.Context) error                { return nil }
func (p printer) OnEnd(s sdktrace.ReadOnlySpan) {
	position := "root"
	if s.Parent().IsValid() {
		position = "child"
	}
	fmt.Printf("%s: %s %s, %d links", s.Name(), position, s.SpanKind(), len(s.Links()))
	all := s.Attributes()
	for _, l := range s.Links() {
		all = append(all, l.Attributes...)
	}
	for _, a := range all {
		for _, name := range p {
			if a.Key == name {
				fmt.Printf(", %s=%s", a.Key, a.Value)
			}
		}
	}
	fmt.Println()
}

var w3c = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// newTracer returns a Tracer that prints its spans.
func newTracer(names ...attribute.Key) *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(print(names...)), tracing.WithPropagators(w3c), tracing.WithDestinationTemplate(template))
}

func template(subject string) string {
	if strings.HasPrefix(subject, "orders.created.") {
		return "orders.created.{order_id}"
	}
	return ""
}

var ctx = context.Background()

func ExampleNew() {
	_ = tracing.New() // uses the global providers and propagator

	tracer := tracing.New(
		tracing.WithTracerProvider(print()),
		tracing.WithPropagators(w3c),
		tracing.WithDestinationTemplate(template),
	)
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process orders.created.{order_id}: root consumer, 1 links
}

func ExampleVersion() {
	fmt.Println(tracing.Version())
	// Output: 0.2.0
}

func ExampleTracer_JetStream() {
	js := newTracer().JetStream(stream{})
	_, _ = js.Publish(ctx, "orders.created.1", []byte("{}"))
	// Output: publish orders.created.{order_id}: root producer, 0 links
}

func ExampleTracer_Publish() {
	ack, err := newTracer().Publish(ctx, stream{}, nats.NewMsg("orders.created.1"))
	fmt.Println(ack.Sequence, err)
	// Output:
	// publish orders.created.{order_id}: root producer, 0 links
	// 1 <nil>
}

// A publisher that is in doubt publishes again, in the same span.
func ExampleTracer_StartSend() {
	ctx, send := newTracer().StartSend(ctx, nats.NewMsg("orders.created.1"))
	ack, err := stream{}.PublishMsg(ctx, send.Msg)
	if errors.Is(err, nats.ErrTimeout) {
		ack, err = stream{}.PublishMsg(ctx, send.Msg)
	}
	send.End(ack, err)
	// Output: publish orders.created.{order_id}: root producer, 0 links
}

func ExampleSend_End() {
	tracer := newTracer("error.type")
	_, send := tracer.StartSend(ctx, nats.NewMsg("orders.created.1"))
	send.End(nil, jetstream.ErrNoStreamResponse)
	_, send = tracer.StartSend(ctx, nats.NewMsg("orders.created.1"))
	send.End(nil, nil) // the error was no failure
	// Output:
	// publish orders.created.{order_id}: root producer, 0 links, error.type=no_responders
	// publish orders.created.{order_id}: root producer, 0 links
}

func ExampleTracer_Process() {
	_ = newTracer("messaging.nats.message.settlement").Process(ctx, newMessage(), func(ctx context.Context, msg jetstream.Msg) error {
		fmt.Println("charge order", baggage.FromContext(ctx).Member("order.id").Value())
		return msg.Ack()
	})
	// Output:
	// charge order 1
	// ack orders.created.{order_id}: child client, 0 links
	// process orders.created.{order_id}: root consumer, 1 links, messaging.nats.message.settlement=ack
}

func ExampleTracer_Handler() {
	handler := newTracer().Handler(charge) // consumer.Consume(handler)
	handler(newMessage())
	// Output: process orders.created.{order_id}: root consumer, 1 links
}

func ExampleTracer_ProcessBatch() {
	_ = newTracer("messaging.batch.message_count").ProcessBatch(ctx, []jetstream.Msg{newMessage(), newMessage()}, chargeAll)
	// Output: process orders.created.{order_id}: root consumer, 2 links, messaging.batch.message_count=2
}

func ExampleTracer_Receive() {
	tracer := newTracer()
	msg, err := tracer.Receive(ctx, func() (jetstream.Msg, error) { return newMessage(), nil }) // consumer.Next()
	if err == nil {
		_ = tracer.Process(ctx, msg, charge)
	}
	// Output:
	// receive orders.created.{order_id}: root client, 1 links
	// process orders.created.{order_id}: root consumer, 1 links
}

func ExampleTracer_ReceiveBatch() {
	tracer := newTracer()
	msgs, _ := tracer.ReceiveBatch(ctx, fetch) // consumer.Fetch(2)
	for _, msg := range msgs {
		_ = tracer.Process(ctx, msg, charge)
	}
	// Output:
	// receive orders.created.{order_id}: root client, 2 links
	// process orders.created.{order_id}: root consumer, 1 links
	// process orders.created.{order_id}: root consumer, 1 links
}

// A fan-in links the messages that it concludes.
func ExampleTracer_Link() {
	paid := nats.Header{"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	reserved := nats.Header{"traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
	tracer := newTracer()
	_, span := print().Tracer("fulfillment").Start(ctx, "fulfill order", trace.WithLinks(
		tracer.Link(paid, tracing.RelationshipKey.String("payment_confirmation")),
		tracer.Link(reserved, tracing.RelationshipKey.String("inventory_reservation"))))
	span.End()
	// Output: fulfill order: root internal, 2 links
}

func ExampleTracer_Forward() {
	tracer := newTracer()
	_, _ = tracer.Publish(ctx, stream{}, tracer.Forward(newMessage(), "deadletters.1"))
	// Output: publish: root client, 1 links
}

func ExampleTracer_PublishMsg() {
	var nc *nats.Conn // nats.Connect(url)
	fmt.Println(newTracer("error.type").PublishMsg(ctx, nc, nats.NewMsg("orders.created.1")))
	// Output:
	// publish orders.created.{order_id}: root producer, 0 links, error.type=invalid_connection
	// nats: invalid connection
}

// The subscriber of a published message links it; the responder to a request is its child.
func ExampleTracer_MsgHandler() {
	msg := &nats.Msg{Subject: "orders.created.1", Header: newMessage().Headers()}
	handle := func(context.Context, *nats.Msg) error { return nil }
	newTracer().MsgHandler(handle)(msg)     // nc.Subscribe("orders.created.*", …)
	newTracer().RequestHandler(handle)(msg) // nc.Subscribe("prices", …)
	// Output:
	// process orders.created.{order_id}: root consumer, 1 links
	// process orders.created.{order_id}: child server, 0 links
}

func ExampleTracer_RequestHandler() {
	request := &nats.Msg{Subject: "prices", Header: newMessage().Headers()}
	newTracer().RequestHandler(func(_ context.Context, msg *nats.Msg) error {
		return msg.Respond([]byte("42"))
	})(request)
	// Output: process: child server, 0 links
}

func ExampleTracer_Request() {
	var nc *nats.Conn // nats.Connect(url)
	_, err := newTracer().Request(ctx, nc, nats.NewMsg("prices"))
	fmt.Println(err)
	// Output:
	// request: root client, 0 links
	// nats: invalid connection
}

func ExampleTracer_KeyValue() {
	settings := newTracer().KeyValue(bucket{}) // js.KeyValue(ctx, "settings")
	_, err := settings.Get(ctx, "currency")
	fmt.Println(err)
	// Output:
	// get settings: root client, 0 links
	// nats: key not found
}

func ExampleTracer_MicroHandler() {
	var _ micro.EndpointConfig = micro.EndpointConfig{
		Handler: newTracer().MicroHandler(func(_ context.Context, r micro.Request) error { return r.Respond([]byte("42")) }),
	}
	// Output:
}

func ExampleTracer_Shutdown() {
	provider := print()
	tracer := tracing.New(tracing.WithTracerProvider(provider))
	_, send := tracer.StartSend(ctx, nats.NewMsg("orders.created.1"))

	bounded, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("out of patience"))
	fmt.Println(tracer.Shutdown(bounded))
	send.End(nil, nil)
	fmt.Println(tracer.Shutdown(ctx), provider.Shutdown(ctx))
	// Output:
	// tracing: shutdown: 1 handlers and publishes have not ended: out of patience
	// publish: root producer, 0 links
	// <nil> <nil>
}

func ExampleHeaderCarrier() {
	header := nats.Header{"Traceparent": newMessage().Headers()["traceparent"]} // other clients write other cases
	fmt.Println(trace.SpanContextFromContext(w3c.Extract(ctx, tracing.HeaderCarrier(header))).SpanID())
	// Output: b7ad6b7169203331
}
