package test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/pkg/tracing"
)

// Several tracestate headers are one list.
func TestTracestateInSeveralHeaders(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	link := tap.Link(nats.Header{"traceparent": {valid}, "tracestate": {"a=1", "b=2,c=3"}})
	if got := link.SpanContext.TraceState().String(); got != "a=1,b=2,c=3" {
		t.Errorf("tracestate is %q", got)
	}
}

// An asynchronous publish succeeds at each size at which it would without tracing.
func TestAsyncPublishNearTheLimits(t *testing.T) {
	js := mustJetStream(t)
	ctx := context.Background()
	const limit = 1000
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small.>"}, MaxMsgSize: limit})
	if err != nil {
		t.Fatal(err)
	}
	tap := newTap(sdktrace.AlwaysSample())
	traced := tap.JetStream(js)
	sizes := map[string]int{"orders.created.1": int(js.Conn().MaxPayload()), "small.1": limit}
	for subject, size := range sizes {
		for _, less := range []int{0, 1, 40, 79, 80} {
			future, err := traced.PublishAsync(subject, make([]byte, size-less))
			if err != nil {
				t.Fatalf("%s, %d below the limit: %v", subject, less, err)
			}
			select {
			case ack := <-future.Ok():
				if ack.Sequence == 0 {
					t.Error("the acknowledgement has no sequence")
				}
			case err := <-future.Err():
				t.Errorf("%s, %d below the limit: %v", subject, less, err)
			case <-time.After(10 * time.Second):
				t.Fatal("no acknowledgement")
			}
		}
	}
	future, err := traced.PublishAsync("small.1", make([]byte, limit+1))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-future.Err(); !errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) {
		t.Errorf("got %v for a message that is too large without tracing", err)
	}
	<-traced.PublishAsyncComplete()
	if err := tap.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n := len(tap.spans.Ended()); n != 11 {
		t.Errorf("%d spans, want 11", n)
	}
	if info, err := stream.Info(ctx); err != nil || info.State.Msgs != 5 {
		t.Errorf("%v messages, %v; want 5", info.State.Msgs, err)
	}
}

// unlisted writes more headers than Fields returns, as the OpenTracing propagator does.
type unlisted struct{ propagation.TraceContext }

func (unlisted) Inject(ctx context.Context, c propagation.TextMapCarrier) {
	c.Set("ot-tracer-traceid", "1")
	for range baggage.FromContext(ctx).Members() {
		c.Set("ot-baggage-k", strings.Repeat("x", 66_000))
	}
}

func TestOversizeHeaders(t *testing.T) {
	for _, tt := range []struct {
		name       string
		propagator propagation.TextMapPropagator
		header     nats.Header
		want       []string
	}{
		{"OwnBaggage", propagation.TraceContext{}, nats.Header{"big": {strings.Repeat("x", 65_000)}, "baggage": {"own=1"}}, []string{"baggage", "big"}},
		{"OwnBaggageReplaced", w3c(), nats.Header{"big": {strings.Repeat("x", 60_000)}, "baggage": {"own=1"}}, []string{"baggage", "big", "traceparent"}},
		{"Unlisted", unlisted{}, nil, []string{"ot-tracer-traceid"}},
		{"UnlistedAndBig", unlisted{}, nats.Header{"big": {strings.Repeat("x", 64_490)}}, []string{"big"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample(), tracing.WithPropagators(tt.propagator))
			m, _ := baggage.NewMemberRaw("k", strings.Repeat("x", 8000))
			b, _ := baggage.New(m)
			_, send := tap.StartSend(baggage.ContextWithBaggage(context.Background(), b), &nats.Msg{Subject: "a", Header: tt.header})
			send.End(nil, nil)
			keys := tracing.HeaderCarrier(send.Msg.Header).Keys()
			if slices.Sort(keys); !slices.Equal(keys, tt.want) {
				t.Errorf("headers are %v, want %v", keys, tt.want)
			}
			if got := send.Msg.Header.Get("baggage"); tt.header["baggage"] != nil && got != "own=1" {
				t.Errorf("the caller's baggage became %q", got)
			}
		})
	}
}

// Each ephemeral consumer has another name; the metrics have one series.
func TestConsumerNamesAreNoSeries(t *testing.T) {
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
	for i := range 10 {
		msg := arrived(nil)
		msg.md.Consumer, msg.settle = fmt.Sprintf("random%d", i), nil
		_ = tap.Process(context.Background(), msg, ack)
	}
	for _, name := range []string{processDuration, consumedMessages, operationDuration} {
		if n := len(m.points(t, name)); n != 1 {
			t.Errorf("%s has %d series, want 1", name, n)
		}
	}
}

func TestInboxes(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	_, send := tap.StartSend(context.Background(), nats.NewMsg(nats.NewInbox()))
	send.End(nil, nil)
	wantAttrs(t, tap.only(t, "publish").Attributes(), map[string]string{
		"messaging.destination.temporary": "true", "messaging.destination.anonymous": "true"})
}

// A caller may wrap a message between Receive and Process, and between two Process.
type wrapped struct{ jetstream.Msg }

func TestWrappedMessages(t *testing.T) {
	ctx := context.Background()
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
	delivered := arrived(nats.Header{"traceparent": {valid}})
	delivered.reply = "$JS.ACK.ORDERS.payments.1.7.3.1.0"
	msg, err := tap.Receive(ctx, func() (jetstream.Msg, error) { return delivered, nil })
	if err != nil {
		t.Fatal(err)
	}
	_ = tap.Process(ctx, wrapped{msg}, func(ctx context.Context, msg jetstream.Msg) error {
		return tap.Process(ctx, wrapped{msg}, ack)
	})
	_ = tap.ProcessBatch(ctx, []jetstream.Msg{wrapped{msg}}, func(ctx context.Context, msgs []jetstream.Msg) error {
		return tap.Process(ctx, wrapped{msgs[0]}, ack)
	})
	points := m.points(t, consumedMessages)
	if len(points) != 1 || points[0].count != 1 {
		t.Errorf("consumed %v, want 1", points)
	}
	if n := len(tap.named("ack orders.created.{order_id}")); n != 2 {
		t.Errorf("%d ack spans for 2 acks", n)
	}
	batch := tap.batch(t)
	for _, s := range tap.named("process orders.created.{order_id}") {
		if s != batch {
			wantAttrs(t, s.Attributes(), map[string]string{"messaging.nats.message.settlement": "ack"})
		}
	}
	wantAttrs(t, batch.Attributes(), map[string]string{"messaging.nats.batch.acks": "1"})
}

func TestReceiveBatchWithoutBatch(t *testing.T) {
	msgs, err := newTap(sdktrace.AlwaysSample()).ReceiveBatch(context.Background(), func() (jetstream.MessageBatch, error) { return nil, nil })
	if msgs != nil || err != nil {
		t.Errorf("got %v, %v", msgs, err)
	}
}

// handMade is a test double with only the methods that its handler needs.
type handMade struct{ jetstream.Msg }

func (handMade) Subject() string { return "orders.created.1" }
func (handMade) Ack() error      { return nil }

func TestHandMadeMessage(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithBodySize())
	if err := tap.Process(context.Background(), handMade{}, ack); err != nil {
		t.Error(err)
	}
	_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{handMade{}}, func(_ context.Context, msgs []jetstream.Msg) error { return msgs[0].Ack() })
	if n := len(tap.named("ack orders.created.{order_id}")); n != 2 {
		t.Errorf("%d ack spans, want 2", n)
	}
}

func TestBatchMessageWithoutContext(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{arrived(nil), arrived(nats.Header{"traceparent": {valid}})},
		func(context.Context, []jetstream.Msg) error { return nil },
		tracing.WithLinkAttributes(func(jetstream.Msg) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("order.id", "1")}
		}))
	s := tap.only(t, "process orders.created.{order_id}")
	if len(s.Links()) != 1 || len(s.Events()) != 1 {
		t.Fatalf("%d links, %d events; want one of each", len(s.Links()), len(s.Events()))
	}
	wantAttrs(t, s.Events()[0].Attributes, map[string]string{"order.id": "1", "messaging.destination.name": "orders.created.1", "link.trace_id": ""})
}

func TestFilterAndSettleSpans(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithoutSettleSpans(),
		tracing.WithFilter(func(subject string, _ nats.Header) bool { return subject != "heartbeat" }))
	_, send := tap.StartSend(context.Background(), nats.NewMsg("heartbeat"))
	send.End(nil, nil)
	if send.Msg.Header != nil {
		t.Errorf("a filtered message has headers %v", send.Msg.Header)
	}
	_ = tap.Process(context.Background(), arrived(nil), ack)
	tap.only(t, "process orders.created.{order_id}")
	if n := len(tap.spans.Ended()); n != 1 {
		t.Errorf("%d spans, want 1", n)
	}
}
