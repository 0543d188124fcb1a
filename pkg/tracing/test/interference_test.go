package test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/pkg/tracing"
)

// A connection without headers, because it is not made yet or because the server has none,
// publishes what it publishes without tracing.
func TestConnectionWithoutHeaders(t *testing.T) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoHeaderSupport: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	none, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(none.Close)
	if _, err := none.Subscribe("prices", func(msg *nats.Msg) { _ = msg.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	waiting, err := nats.Connect("nats://127.0.0.1:1", nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(waiting.Close)
	ctx := context.Background()
	tap := newTap(sdktrace.AlwaysSample())
	for name, nc := range map[string]*nats.Conn{"the server has none": none, "not connected yet": waiting} {
		if err := tap.PublishMsg(ctx, nc, nats.NewMsg("facts")); err != nil {
			t.Errorf("%s: PublishMsg: %v", name, err)
		}
	}
	if _, err := tap.Request(ctx, none, nats.NewMsg("prices")); err != nil {
		t.Errorf("Request: %v", err)
	}
	js, err := jetstream.New(waiting)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tap.JetStream(js).PublishAsync("orders.created.1", nil); err != nil {
		t.Errorf("PublishAsync: %v", err)
	}
}

// onlyPublishes is a Publisher without a connection.
type onlyPublishes struct{ tracing.Publisher }

// A publish succeeds if it would without tracing, whatever its options add to the header.
func TestPublishNearMaxPayload(t *testing.T) {
	js := mustJetStream(t)
	ctx := withOrder(context.Background(), strings.Repeat("x", 1000))
	most := int(js.Conn().MaxPayload())
	tap := newTap(sdktrace.AlwaysSample())
	id := jetstream.WithMsgID(strings.Repeat("i", 1200))
	if _, err := tap.JetStream(js).Publish(ctx, "orders.created.1", make([]byte, most-2300), id); err != nil {
		t.Errorf("with a long message id: %v", err)
	}
	if _, err := tap.Publish(ctx, onlyPublishes{js}, &nats.Msg{Subject: "orders.created.1", Data: make([]byte, most-10)}); err != nil {
		t.Errorf("on an unknown connection: %v", err)
	}
	// Here the span is in the background, and the context of one span is shorter.
	id = jetstream.WithMsgID(strings.Repeat("j", 1200))
	future, err := tap.JetStream(js).PublishAsync("orders.created.1", make([]byte, most-1250), id)
	if err != nil {
		t.Fatalf("asynchronously: %v", err)
	}
	select {
	case <-future.Ok():
	case err := <-future.Err():
		t.Errorf("asynchronously: %v", err)
	}
}

// pretender is a jetstream.JetStream of a test, with only the methods that it needs.
type pretender struct{ jetstream.JetStream }

func (pretender) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return &jetstream.PubAck{Stream: "ORDERS", Sequence: 1}, nil
}

func TestPretenders(t *testing.T) {
	ctx := context.Background()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithFilter(func(string, nats.Header) bool { return true }))
	if _, err := tap.JetStream(pretender{}).Publish(ctx, "orders.created.1", nil); err != nil {
		t.Error(err)
	}
	if err := tap.Process(ctx, handMade{}, ack); err != nil {
		t.Error(err)
	}
	if err := tracing.New().Process(ctx, handMade{}, ack); err != nil {
		t.Error(err)
	}
}

// When its connection is closed, an asynchronous publish without an answer ends: its
// future, its span, and the wait of Shutdown.
func TestAsyncPublishOnClosedConnection(t *testing.T) {
	js := mustJetStream(t)
	answers, err := js.Conn().SubscribeSync("nowhere") // a listener that does not answer
	if err != nil {
		t.Fatal(err)
	}
	tap := newTap(sdktrace.AlwaysSample())
	traced := tap.JetStream(js)
	future, err := traced.PublishAsync("nowhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answers.NextMsg(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	complete := traced.PublishAsyncComplete()
	js.Conn().Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	select {
	case err := <-future.Err():
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("the future's error is %v", err)
		}
	case <-ctx.Done():
		t.Error("the future has no outcome")
	}
	select {
	case <-complete:
	case <-ctx.Done():
		t.Error("the publishes are not complete")
	}
	if err := tap.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	wantAttrs(t, tap.only(t, "publish").Attributes(), map[string]string{"error.type": "connection_closed"})
}

// Shutdown flushes the global provider, also one that was set after New.
func TestShutdownFlushesLateProvider(t *testing.T) {
	before := otel.GetTracerProvider()
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	tracer := tracing.New()
	provider := &flushed{} // without spans, because earlier tracers of the global provider get it for ever
	otel.SetTracerProvider(provider)
	if err := tracer.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := provider.times.Load(); n != 1 {
		t.Errorf("flushed %d times, want 1", n)
	}
}

type flushed struct {
	noop.TracerProvider
	times atomic.Int64
}

func (f *flushed) ForceFlush(context.Context) error { f.times.Add(1); return nil }

// A request has its own context, also if its message has one: the responder's span is a
// child of the request span.
func TestRequestWithContextOfAnother(t *testing.T) {
	nc := mustJetStream(t).Conn()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithDestinationTemplate(func(s string) string { return s }))
	if _, err := nc.Subscribe("prices", tap.RequestHandler(func(_ context.Context, msg *nats.Msg) error { return msg.Respond(nil) })); err != nil {
		t.Fatal(err)
	}
	if _, err := tap.Request(context.Background(), nc, &nats.Msg{Subject: "prices", Header: nats.Header{"traceparent": {valid}}}); err != nil {
		t.Fatal(err)
	}
	if err := tap.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	request := tap.only(t, "request prices")
	wantLink(t, request, tap.Link(nats.Header{"traceparent": {valid}}).SpanContext)
	wantChild(t, tap.only(t, "process prices"), request.SpanContext())
	// Without spans the message is passed on as it is.
	if _, err := nc.Subscribe("plain", func(msg *nats.Msg) { _ = msg.Respond([]byte(msg.Header.Get("traceparent"))) }); err != nil {
		t.Fatal(err)
	}
	off := tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()), tracing.WithPropagators(w3c()))
	reply, err := off.Request(context.Background(), nc, &nats.Msg{Subject: "plain", Header: nats.Header{"traceparent": {valid}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(reply.Data); got != valid {
		t.Errorf("the message has the context %q, want %q", got, valid)
	}
}

// slow is a message whose DoubleAck waits.
type slow struct {
	*received
	begun, end chan struct{}
}

func (s slow) DoubleAck(context.Context) error {
	close(s.begun)
	<-s.end
	return nil
}

// Two settlements of a message at the same time have a span each.
func TestSettleAtTheSameTime(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	msg := slow{arrived(nil), make(chan struct{}), make(chan struct{})}
	msg.reply = "$JS.ACK.ORDERS.payments.1.7.3.1.0"
	_ = tap.Process(context.Background(), msg, func(ctx context.Context, m jetstream.Msg) error {
		done := make(chan error, 1)
		go func() { done <- m.DoubleAck(ctx) }()
		<-msg.begun
		_ = m.Nak()
		close(msg.end)
		return <-done
	})
	tap.only(t, "nak orders.created.{order_id}")
	tap.only(t, "ack orders.created.{order_id}")
}

// A dead letter links its producer, also if the propagator reads other headers than it
// writes, as that of B3 does.
func TestForwardOfB3(t *testing.T) {
	js := mustJetStream(t)
	ctx := context.Background()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithPropagators(b3.New()))
	producer := nats.Header{
		"x-b3-traceid": {"4bf92f3577b34da6a3ce929d0e0e4736"}, "x-b3-spanid": {"00f067aa0ba902b7"}, "x-b3-sampled": {"1"},
	}
	letter := tap.Forward(headersOnly(producer), "orders.dead.1")
	if _, err := tap.Publish(ctx, js, letter); err != nil {
		t.Fatal(err)
	}
	if err := tap.Process(ctx, mustFetch(t, js, "dead", 1)[0], ack); err != nil {
		t.Fatal(err)
	}
	want := tap.Link(producer).SpanContext
	if !want.IsValid() {
		t.Fatal("the producer's header has no context")
	}
	wantLink(t, tap.only(t, "process orders.dead.{order_id}"), want)
	if s := tap.only(t, "publish orders.dead.{order_id}"); s.SpanKind() != trace.SpanKindClient {
		t.Errorf("the letter's publish span is a %v", s.SpanKind())
	}
}

// readsTenants is a propagator that reads a header and writes none.
type readsTenants struct{ propagation.TraceContext }

func (p readsTenants) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	_ = c.Get("X-Tenant")
	return p.TraceContext.Extract(ctx, c)
}

// Headers that a propagator reads, and does not write, stay in a message.
func TestHeadersThatAreOnlyRead(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithPropagators(readsTenants{}))
	_, send := tap.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1", Header: nats.Header{"X-Tenant": {"a"}}})
	send.End(nil, nil)
	if got := send.Msg.Header; got.Get("X-Tenant") != "a" || got.Get("traceparent") == "" {
		t.Errorf("the header is %v", got)
	}
}

// A message that is filtered out has no receive span either.
func TestReceiveIsFiltered(t *testing.T) {
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider),
		tracing.WithFilter(func(string, nats.Header) bool { return false }))
	msg, err := tap.Receive(context.Background(), func() (jetstream.Msg, error) { return arrived(nil), nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := tap.Process(context.Background(), msg, ack); err != nil {
		t.Error(err)
	}
	if n := len(tap.spans.Ended()); n != 0 {
		t.Errorf("%d spans, want none", n)
	}
	if points := m.points(t, consumedMessages); len(points) != 0 {
		t.Errorf("counted %v", points)
	}
}

// A batch that its context ended early is no failure if messages came.
func TestBatchEndedByContext(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	messages := make(chan jetstream.Msg, 1)
	messages <- arrived(nil)
	close(messages)
	msgs, err := tap.ReceiveBatch(context.Background(), func() (jetstream.MessageBatch, error) {
		return broken{messages, context.Canceled}, nil
	})
	if len(msgs) != 1 || !errors.Is(err, context.Canceled) {
		t.Fatalf("%d messages, %v", len(msgs), err)
	}
	wantAttrs(t, tap.only(t, "receive orders.created.{order_id}").Attributes(), map[string]string{"error.type": ""})
}
