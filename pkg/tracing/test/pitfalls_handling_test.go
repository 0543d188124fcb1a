package test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// A message that is read long after it was published, by a direct get or when its
// schedule says so, leads back to its producer by a link, never by a parent.
func TestPitfall10OldContexts(t *testing.T) {
	js := mustJetStream(t)
	ctx := context.Background()
	t.Run("DirectGet", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		if _, err := tap.Publish(ctx, js, nats.NewMsg("orders.created.1")); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(ctx, "ORDERS")
		if err != nil {
			t.Fatal(err)
		}
		stored, err := stream.GetLastMsgForSubject(ctx, "orders.created.1")
		if err != nil {
			t.Fatal(err)
		}
		_, span := tap.provider.Tracer("test").Start(ctx, "fulfill order", tap.linked(stored.Header))
		span.End()
		s := tap.only(t, "fulfill order")
		wantRoot(t, s)
		l := wantLink(t, s, tap.only(t, "publish orders.created.{order_id}").SpanContext())
		wantAttrs(t, l.Attributes, map[string]string{"link.trace_id": l.SpanContext.TraceID().String()})
	})
	t.Run("Schedule", func(t *testing.T) {
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "DEADLINES", Subjects: []string{"deadlines.>"}, Storage: jetstream.MemoryStorage, AllowMsgSchedules: true,
		}); err != nil {
			t.Fatal(err)
		}
		tap := newTap(sdktrace.AlwaysSample())
		placing, placed := tap.provider.Tracer("test").Start(withOrder(ctx, "1"), "place order")
		schedule := &nats.Msg{Subject: "deadlines.at.1", Header: nats.Header{
			"Nats-Schedule":        {"@at " + time.Now().UTC().Format(time.RFC3339Nano)},
			"Nats-Schedule-Target": {"deadlines.due.1"},
		}}
		if _, err := tap.Publish(placing, js, schedule); err != nil {
			t.Fatal(err)
		}
		placed.End()
		c, err := js.CreateConsumer(ctx, "DEADLINES", jetstream.ConsumerConfig{Durable: "orders", FilterSubject: "deadlines.due.*"})
		if err != nil {
			t.Fatal(err)
		}
		msg, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		_ = tap.Process(ctx, msg, func(ctx context.Context, msg jetstream.Msg) error {
			if got := baggage.FromContext(ctx).Member("order.id").Value(); got != "1" {
				t.Errorf("baggage order.id is %q", got)
			}
			return msg.Ack()
		})
		s := tap.only(t, "process deadlines.due.{order_id}")
		wantRoot(t, s)
		wantLink(t, s, tap.only(t, "publish deadlines.at.{order_id}").SpanContext())
	})
}

func TestPitfall11HeadersOnly(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithBodySize())
	if _, err := tap.Publish(context.Background(), js, &nats.Msg{Subject: "orders.created.1", Data: make([]byte, 1234)}); err != nil {
		t.Fatal(err)
	}
	c := mustConsumer(t, js, jetstream.ConsumerConfig{Durable: "notify", HeadersOnly: true})
	msg, err := c.Next(jetstream.FetchMaxWait(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if len(msg.Data()) != 0 {
		t.Fatal("the consumer is delivered bodies")
	}
	_ = tap.Process(context.Background(), msg, ack)
	produced, process := tap.only(t, "publish orders.created.{order_id}"), tap.only(t, "process orders.created.{order_id}")
	wantLink(t, process, produced.SpanContext())
	for _, s := range []sdktrace.ReadOnlySpan{produced, process} {
		wantAttrs(t, s.Attributes(), map[string]string{"messaging.message.body.size": "1234"})
	}
}

func TestPitfall12Settling(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_ = tap.Process(context.Background(), mustFetch(t, js, "payments", 1)[0], func(_ context.Context, msg jetstream.Msg) error {
		if err := msg.InProgress(); err != nil {
			t.Errorf("InProgress: %v", err)
		}
		if err := msg.DoubleAck(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("DoubleAck with a cancelled context: %v", err)
		}
		if err := msg.Ack(); err != nil {
			t.Errorf("Ack: %v", err)
		}
		if err := msg.Term(); !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			t.Errorf("Term after Ack: %v", err)
		}
		return nil
	})
	process := tap.only(t, "process orders.created.{order_id}")
	wantAttrs(t, process.Attributes(), map[string]string{"messaging.nats.message.settlement": "ack", "error.type": ""})
	if len(process.Events()) != 1 || process.Events()[0].Name != "messaging.nats.in_progress" {
		t.Errorf("events are %v", process.Events())
	}
	acks := tap.named("ack orders.created.{order_id}")
	if len(acks) != 2 {
		t.Fatalf("%d ack spans", len(acks))
	}
	wantAttrs(t, acks[0].Attributes(), map[string]string{"error.type": "canceled"})
	wantAttrs(t, acks[1].Attributes(), map[string]string{"error.type": ""})
	term := tap.only(t, "term orders.created.{order_id}")
	wantAttrs(t, term.Attributes(), map[string]string{"error.type": "already_acknowledged"})
	if term.Status().Code != codes.Error {
		t.Errorf("status %v", term.Status().Code)
	}
}

// However a handler ends, its span ends once, as failed unless it returned nil.
func TestPitfall13Ends(t *testing.T) {
	js := mustJetStream(t)
	for _, tt := range []struct {
		name, class   string
		kind, message string // of the exception
		end           func(trace.Span)
	}{
		{"Panic", "panic", "string", "", func(trace.Span) { panic("secret") }},
		{"NilPanic", "panic", "*runtime.PanicNilError", new(runtime.PanicNilError).Error(), func(trace.Span) { panic(nil) }}, //nolint:govet // that is the case
		{"Runtime", "panic", "runtime.boundsError", "runtime error: index out of range [1] with length 0", func(trace.Span) { _ = []int{}[one()] }},
		{"Goexit", "goexit", "", "", func(trace.Span) { runtime.Goexit() }},
		{"EndedByTheHandler", "", "", "", func(s trace.Span) { s.End() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			msg := delivered(t, js, nil)
			_ = msg.Ack()
			done := make(chan any, 1)
			go func() {
				returned := false
				defer func() {
					cause := recover()
					if !returned && cause == nil {
						cause = "goexit"
					}
					done <- cause
				}()
				_ = tap.Process(context.Background(), msg, func(ctx context.Context, _ jetstream.Msg) error {
					tt.end(trace.SpanFromContext(ctx))
					return nil
				})
				returned = true
			}()
			if cause := <-done; (cause == nil) != (tt.class == "") {
				t.Errorf("the handler's end reached the caller as %v", cause)
			}
			s := tap.only(t, "process orders.created.{order_id}")
			wantAttrs(t, s.Attributes(), map[string]string{"error.type": tt.class})
			if (s.Status().Code == codes.Error) != (tt.class != "") || (len(s.Events()) == 1) != (tt.kind != "") {
				t.Errorf("status %v, %d events", s.Status(), len(s.Events()))
			}
			for _, e := range s.Events() {
				wantAttrs(t, e.Attributes, map[string]string{"exception.type": tt.kind, "exception.message": tt.message})
				if e.Name != "exception" || !strings.Contains(attr(e.Attributes, "exception.stacktrace"), "pitfalls_handling_test.go") {
					t.Errorf("event %s does not show where", e.Name)
				}
			}
		})
	}
}

func one() int { return 1 }

func TestPitfall15AmbientParent(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
		t.Fatal(err)
	}
	ctx, ambient := tap.provider.Tracer("test").Start(context.Background(), "poll")
	_ = tap.Process(ctx, mustFetch(t, js, "payments", 1)[0], ack)
	s := tap.only(t, "process orders.created.{order_id}")
	wantChild(t, s, ambient.SpanContext())
	wantLink(t, s, tap.only(t, "publish orders.created.{order_id}").SpanContext())
}

func TestPitfall17Credentials(t *testing.T) {
	for _, tt := range []struct{ address, host, port string }{
		{"nats.example", "nats.example", ""},
		{"nats.example:4222", "nats.example", "4222"},
		{"nats://user:secret@nats.example:4222", "nats.example", "4222"},
		{"tls://secret@nats.example:4222/path?token=secret#secret", "nats.example", "4222"},
		{"user:secret@nats.example:4222", "nats.example", "4222"},
		{"nats://[::1]:4222", "::1", "4222"},
		{"", "", ""},
		{"nats://", "", ""},
		{"a b%", "", ""},
		{"nats://user:secret@nats.example:port", "", ""},
	} {
		m := newMetrics()
		tap := newTap(sdktrace.AlwaysSample(), tracing.WithServerAddress(tt.address), tracing.WithMeterProvider(m.provider))
		_ = tap.Process(context.Background(), arrived(nil), ack)
		for _, s := range tap.spans.Ended() {
			wantAttrs(t, s.Attributes(), map[string]string{"server.address": tt.host, "server.port": tt.port})
			if text := fmt.Sprint(s.Attributes(), s.Links(), s.Status()); strings.Contains(text, "secret") || strings.Contains(text, "user") {
				t.Errorf("%s: credentials in %s", tt.address, text)
			}
		}
		for _, p := range m.points(t, processDuration) {
			if p.attrs["server.address"] != tt.host || p.attrs["server.port"] != tt.port {
				t.Errorf("%s: a metric has %v", tt.address, p.attrs)
			}
		}
	}
	// As it is meant to be called. Errors of a connection may quote its URL too.
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithServerAddress(js.Conn().ConnectedUrl()))
	js.Conn().Close()
	_, _ = tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1"))
	wantAttrs(t, tap.only(t, "publish orders.created.{order_id}").Attributes(), map[string]string{"error.type": "connection_closed", "server.address": "127.0.0.1"})
}

// Baggage beyond the limits of W3C Baggage is dropped; the message is processed,
// linked and published all the same.
func TestPitfall18LargeBaggage(t *testing.T) {
	js := mustJetStream(t)
	members := func(n, size int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("k%d=%s", i, strings.Repeat("x", size)))
		}
		return strings.Join(list, ",")
	}
	for _, tt := range []struct {
		name, baggage, own string
	}{
		{"Long", members(1, 9000), "own"},
		{"LongInTotal", members(60, 200), "own"},
		{"Full", members(63, 1), "own"},
		{"Many", members(65, 1), ""}, // there is no room for it
		{"FullOfBytes", members(1, 8185), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			msg := delivered(t, js, nats.Header{"traceparent": {valid}, "baggage": {tt.baggage}})
			err := tap.Process(withOrder(context.Background(), "own"), msg, func(ctx context.Context, msg jetstream.Msg) error {
				b := baggage.FromContext(ctx)
				if len(b.String()) > 8192 || b.Len() > 64 || b.Member("order.id").Value() != tt.own {
					t.Errorf("%d members, %d bytes: %.60s", b.Len(), len(b.String()), b)
				}
				if _, err := tap.Publish(ctx, js, nats.NewMsg("orders.paid.1")); err != nil {
					return err
				}
				return msg.Ack()
			})
			if err != nil {
				t.Fatal(err)
			}
			wantLinks(t, tap.only(t, "process orders.created.{order_id}"), 1)
			_ = mustFetch(t, js, "payments", 1)[0].Ack() // orders.paid
		})
	}
}

func TestPitfall19Secrets(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	secret := errors.New("card tok_secret of robin@example.com declined")
	_ = tap.Process(context.Background(), delivered(t, js, nil), func(_ context.Context, msg jetstream.Msg) error {
		_ = msg.TermWithReason(secret.Error())
		return fmt.Errorf("charge: %w", secret)
	})
	_, _ = tap.Publish(context.Background(), publisherFunc(func() (*jetstream.PubAck, error) { return nil, secret }), nats.NewMsg("orders.created.2"))
	func() {
		defer func() { _ = recover() }()
		_ = tap.Process(context.Background(), arrived(nil), func(context.Context, jetstream.Msg) error { panic(secret) })
	}()
	if n := len(tap.spans.Ended()); n != 4 {
		t.Fatalf("%d spans, want 4", n)
	}
	for _, s := range tap.spans.Ended() {
		var events []attribute.KeyValue
		for _, e := range s.Events() {
			events = append(events, e.Attributes...)
		}
		if text := fmt.Sprint(s.Name(), s.Attributes(), s.Status(), events); strings.Contains(text, "tok_secret") || strings.Contains(text, "robin") {
			t.Errorf("span %s contains %s", s.Name(), text)
		}
	}
}
