package test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

func TestCoreNATS(t *testing.T) {
	nc := mustJetStream(t).Conn()
	ctx := context.Background()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithDestinationTemplate(func(s string) string { return s }))
	failed := errors.New("failed")

	done := make(chan struct{}, 1)
	if _, err := nc.Subscribe("facts", tap.MsgHandler(func(context.Context, *nats.Msg) error { done <- struct{}{}; return failed })); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("prices", tap.RequestHandler(func(_ context.Context, msg *nats.Msg) error { return msg.Respond([]byte("42")) })); err != nil {
		t.Fatal(err)
	}
	service, err := micro.AddService(nc, micro.Config{Name: "stock", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "stock", Handler: tap.MicroHandler(func(_ context.Context, r micro.Request) error { return r.Respond([]byte("7")) }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })

	if err := tap.PublishMsg(ctx, nc, nats.NewMsg("facts")); err != nil {
		t.Fatal(err)
	}
	<-done
	for _, subject := range []string{"prices", "stock"} {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		if _, err := tap.Request(bounded, nc, nats.NewMsg(subject)); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	if err := tap.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	subscriber := tap.only(t, "process facts")
	wantRoot(t, subscriber)
	wantLink(t, subscriber, tap.only(t, "publish facts").SpanContext())
	wantAttrs(t, subscriber.Attributes(), map[string]string{"error.type": "_OTHER"})
	for _, subject := range []string{"prices", "stock"} {
		request, response := tap.only(t, "request "+subject), tap.only(t, "process "+subject)
		wantChild(t, response, request.SpanContext())
		if request.SpanKind() != trace.SpanKindClient || response.SpanKind() != trace.SpanKindServer || len(response.Links()) != 0 {
			t.Errorf("%s: kinds %v and %v, %d links", subject, request.SpanKind(), response.SpanKind(), len(response.Links()))
		}
	}
}

// Handlers of core NATS get the baggage of a trusted message, and end their span if they
// panic.
func TestCoreHandlers(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	msg := &nats.Msg{Subject: "orders.created.1", Header: nats.Header{"traceparent": {valid}, "baggage": {"order.id=1"}}}
	var order string
	handle := func(ctx context.Context, _ *nats.Msg) error {
		order = baggage.FromContext(ctx).Member("order.id").Value()
		return nil
	}
	const name = "process orders.created.{order_id}"
	tap.MsgHandler(handle)(msg)
	if order != "1" {
		t.Errorf("a handler gets the order %q, want 1", order)
	}
	producer := tap.Link(msg.Header).SpanContext
	wantLink(t, tap.only(t, name), producer)

	tap = newTap(sdktrace.AlwaysSample())
	tap.RequestHandler(handle, tracing.WithUntrusted())(msg)
	if order != "" {
		t.Errorf("the handler of an untrusted request gets the order %q", order)
	}
	wantRoot(t, tap.only(t, name))
	wantLink(t, tap.only(t, name), producer)

	tap = newTap(sdktrace.AlwaysSample())
	func() {
		defer func() {
			if recover() != "broken" {
				t.Error("the panic did not go on")
			}
		}()
		tap.RequestHandler(func(context.Context, *nats.Msg) error { panic("broken") })(msg)
	}()
	wantChild(t, tap.only(t, name), producer)
	wantAttrs(t, tap.only(t, name).Attributes(), map[string]string{"error.type": "panic"})
	if err := tap.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// The server address is that of the server that the connection has now.
func TestServerAddressFollowsReconnects(t *testing.T) {
	run := func() *server.Server {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("server is not ready")
		}
		return s
	}
	first, second := run(), run()
	again := make(chan struct{}, 1)
	nc, err := nats.Connect(first.ClientURL()+","+second.ClientURL(), nats.DontRandomize(), nats.ReconnectWait(time.Millisecond),
		nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithConnection(nc))
	port := func() string {
		_, send := tap.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
		send.End(nil, nil)
		ended := tap.spans.Ended()
		return attr(ended[len(ended)-1].Attributes(), "server.port")
	}
	before := port()
	first.Shutdown()
	<-again
	if after := port(); before == "" || after == "" || before == after {
		t.Errorf("server.port was %q and is %q after a reconnect", before, after)
	}
}
