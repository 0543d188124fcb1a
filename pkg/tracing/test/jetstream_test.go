package test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// mustJetStream runs a server without sockets that has a stream ORDERS.
func mustJetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	s, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: tb.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	tb.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		tb.Fatal("server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	mustStream(tb, js)
	return js
}

func mustStream(tb testing.TB, js jetstream.JetStream) {
	tb.Helper()
	_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: "ORDERS", Subjects: []string{"orders.>"}, Storage: jetstream.MemoryStorage, AllowDirect: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// mustFetch returns n messages for the durable.
func mustFetch(tb testing.TB, js jetstream.JetStream, durable string, n int) []jetstream.Msg {
	tb.Helper()
	ctx := context.Background()
	c, err := js.CreateOrUpdateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000,
	})
	if err != nil {
		tb.Fatal(err)
	}
	var msgs []jetstream.Msg
	for deadline := time.Now().Add(10 * time.Second); len(msgs) < n; {
		if time.Now().After(deadline) {
			tb.Fatalf("got %d messages, want %d", len(msgs), n)
		}
		batch, err := c.Fetch(n-len(msgs), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			tb.Fatal(err)
		}
		for msg := range batch.Messages() {
			msgs = append(msgs, msg)
		}
	}
	return msgs
}

// tracetap is a Tracer together with the spans it made.
type tracetap struct {
	*tracing.Tracer
	provider *sdktrace.TracerProvider
	spans    *tracetest.SpanRecorder
}

func w3c() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// byOrder is the template of orders.<event>.<order id>.
func byOrder(subject string) string {
	if event, ok := eventOf(subject); ok {
		return event + ".{order_id}"
	}
	return ""
}

func eventOf(subject string) (string, bool) {
	dots := 0
	for i := range len(subject) {
		if subject[i] == '.' {
			if dots++; dots == 2 {
				return subject[:i], true
			}
		}
	}
	return "", false
}

func newTap(sampler sdktrace.Sampler, opts ...tracing.Option) tracetap {
	spans := tracetest.NewSpanRecorder()
	limits := sdktrace.NewSpanLimits()
	limits.LinkCountLimit = -1
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler),
		sdktrace.WithSpanProcessor(spans), sdktrace.WithRawSpanLimits(limits))
	opts = append([]tracing.Option{
		tracing.WithTracerProvider(provider), tracing.WithPropagators(w3c()),
		tracing.WithDestinationTemplate(byOrder), tracing.WithServerAddress("nats.example:4222"),
	}, opts...)
	return tracetap{tracing.New(opts...), provider, spans}
}

// named returns the ended spans of that name, in order of their end.
func (tap tracetap) named(name string) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, s := range tap.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

// batch returns the one span of ProcessBatch.
func (tap tracetap) batch(tb testing.TB) (found sdktrace.ReadOnlySpan) {
	tb.Helper()
	for _, s := range tap.spans.Ended() {
		if attr(s.Attributes(), "messaging.batch.message_count") != "" && s.SpanKind() == trace.SpanKindConsumer {
			if found != nil {
				tb.Fatal("several batches")
			}
			found = s
		}
	}
	if found == nil {
		tb.Fatal("no batch")
	}
	return found
}

// only returns the one ended span of that name.
func (tap tracetap) only(tb testing.TB, name string) sdktrace.ReadOnlySpan {
	tb.Helper()
	found := tap.named(name)
	if len(found) != 1 {
		var names []string
		for _, s := range tap.spans.Ended() {
			names = append(names, s.Name())
		}
		tb.Fatalf("%d spans %q among %q, want 1", len(found), name, names)
	}
	return found[0]
}

// attr returns the value of an attribute as text, "" if there is none.
func attr(attrs []attribute.KeyValue, key string) string {
	for _, a := range attrs {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

func wantAttrs(tb testing.TB, got []attribute.KeyValue, want map[string]string) {
	tb.Helper()
	for k, v := range want {
		if g := attr(got, k); g != v {
			tb.Errorf("%s is %q, want %q", k, g, v)
		}
	}
}

func wantRoot(tb testing.TB, s sdktrace.ReadOnlySpan) {
	tb.Helper()
	if s.Parent().IsValid() {
		tb.Errorf("%s has parent %s, want a root", s.Name(), s.Parent().SpanID())
	}
}

func wantChild(tb testing.TB, s sdktrace.ReadOnlySpan, parent trace.SpanContext) {
	tb.Helper()
	if s.Parent().SpanID() != parent.SpanID() || s.SpanContext().TraceID() != parent.TraceID() {
		tb.Errorf("%s is no child of %s", s.Name(), parent.SpanID())
	}
}

func wantLink(tb testing.TB, s sdktrace.ReadOnlySpan, to trace.SpanContext) sdktrace.Link {
	tb.Helper()
	if len(s.Links()) != 1 {
		tb.Fatalf("%s has %d links, want 1", s.Name(), len(s.Links()))
	}
	l := s.Links()[0]
	if l.SpanContext.TraceID() != to.TraceID() || l.SpanContext.SpanID() != to.SpanID() {
		tb.Errorf("%s links %s, want %s", s.Name(), l.SpanContext.SpanID(), to.SpanID())
	}
	if s.SpanContext().TraceID() == to.TraceID() && !s.Parent().IsValid() {
		tb.Errorf("%s is in the trace it links", s.Name())
	}
	return l
}

// withOrder returns ctx with baggage order.id.
func withOrder(ctx context.Context, id string) context.Context {
	m, _ := baggage.NewMemberRaw("order.id", id)
	b, _ := baggage.New(m)
	return baggage.ContextWithBaggage(ctx, b)
}

// received is a message outside any server.
type received struct {
	jetstream.Msg
	subject string
	header  nats.Header
	md      *jetstream.MsgMetadata
	settle  error
	reply   string // identifies the delivery
}

func (m *received) Headers() nats.Header { return m.header }
func (m *received) Subject() string      { return m.subject }
func (m *received) Reply() string        { return m.reply }
func (m *received) Ack() error           { return m.settle }
func (m *received) Nak() error           { return m.settle }
func (m *received) Term() error          { return m.settle }
func (m *received) InProgress() error    { return m.settle }
func (m *received) Metadata() (*jetstream.MsgMetadata, error) {
	if m.md == nil {
		return nil, jetstream.ErrNotJSMessage
	}
	return m.md, nil
}

func arrived(header nats.Header) *received {
	return &received{subject: "orders.created.1", header: header, md: &jetstream.MsgMetadata{
		Stream: "ORDERS", Consumer: "payments", NumDelivered: 1,
		Sequence: jetstream.SequencePair{Stream: 7, Consumer: 3},
	}}
}

func ack(_ context.Context, msg jetstream.Msg) error { return msg.Ack() }

func nothing(context.Context, jetstream.Msg) error { return nil }

const (
	traceID1 = "0af7651916cd43dd8448eb211c80319c"
	spanID1  = "b7ad6b7169203331"
	valid    = "00-" + traceID1 + "-" + spanID1 + "-01"
)

// linked is the start option a fan-in uses.
func (tap tracetap) linked(headers ...nats.Header) trace.SpanStartOption {
	var links []trace.Link
	for _, h := range headers {
		links = append(links, tap.Link(h))
	}
	return trace.WithLinks(links...)
}
