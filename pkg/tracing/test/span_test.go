package test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// keeper keeps all that it is shown, and drops every second span.
type keeper struct {
	mu   sync.Mutex
	seen []sdktrace.SamplingParameters
}

func (k *keeper) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, p)
	if len(k.seen)%2 == 0 {
		return sdktrace.SamplingResult{Decision: sdktrace.Drop}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
}

func (*keeper) Description() string { return "keeper" }

// A span waits for its export, for seconds; the message, which may be large, does
// not wait with it, nor does what is in the context.
func TestSpansDoNotKeepMessages(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	type value struct{ nats.Header }
	type valueKey struct{}
	process := func(header nats.Header) (weak.Pointer[received], weak.Pointer[value]) {
		msg, v := arrived(header), &value{header}
		_ = tap.Process(context.WithValue(context.Background(), valueKey{}, v), msg, ack)
		return weak.Make(msg), weak.Make(v)
	}
	batch := func(header nats.Header) weak.Pointer[received] {
		msg := arrived(header)
		_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{msg}, func(context.Context, []jetstream.Msg) error { return msg.Ack() })
		return weak.Make(msg)
	}
	one, ctx := process(nats.Header{"traceparent": {valid}})
	several := batch(nats.Header{"traceparent": {valid}})
	runtime.GC()
	if one.Value() != nil || ctx.Value() != nil || several.Value() != nil {
		t.Errorf("kept: a message %t, its context %t; a message of a batch %t", one.Value() != nil, ctx.Value() != nil, several.Value() != nil)
	}
	if n := len(tap.spans.Ended()); n != 3 {
		t.Errorf("%d spans, want 3", n)
	}
}

// A sampler sees what the conventions want it to see, of every kind of span.
func TestSamplersSee(t *testing.T) {
	k := &keeper{}
	tap := newTap(k)
	msg := arrived(nats.Header{"traceparent": {valid}})
	one := func() (jetstream.Msg, error) { return msg, nil }
	several := func() (jetstream.MessageBatch, error) {
		b := broken{make(chan jetstream.Msg, 1), nil}
		b.messages <- msg
		close(b.messages)
		return b, nil
	}
	ctx, group := context.Background(), tracing.WithConsumerGroup("payments")
	_, send := tap.StartSend(ctx, nats.NewMsg("orders.created.1"))
	send.End(nil, nil)
	_, _ = tap.Receive(ctx, one, group)
	_, _ = tap.ReceiveBatch(ctx, several, group)
	_ = tap.Process(ctx, msg, ack, group)
	_ = tap.ProcessBatch(ctx, []jetstream.Msg{msg}, func(context.Context, []jetstream.Msg) error { return nil }, group)

	type seen struct {
		name, class, template string
		kind                  trace.SpanKind
		links                 int
	}
	template := "orders.created.{order_id}"
	want := []seen{
		{"publish orders.created.{order_id}", "send", template, trace.SpanKindProducer, 0},
		{"receive orders.created.{order_id}", "receive", template, trace.SpanKindClient, 1},
		{"receive orders.created.{order_id}", "receive", template, trace.SpanKindClient, 1},
		{"process orders.created.{order_id}", "process", template, trace.SpanKindConsumer, 1},
		{"ack orders.created.{order_id}", "settle", template, trace.SpanKindClient, 0},
		{"process orders.created.{order_id}", "process", template, trace.SpanKindConsumer, 1},
	}
	if len(k.seen) != len(want) {
		t.Fatalf("%d spans, want %d", len(k.seen), len(want))
	}
	for i, p := range k.seen {
		got := seen{p.Name, attr(p.Attributes, "messaging.operation.type"), attr(p.Attributes, "messaging.destination.template"), p.Kind, len(p.Links)}
		if got != want[i] {
			t.Errorf("seen %+v, want %+v", got, want[i])
		}
		group := "payments"
		if i == 0 {
			group = ""
		}
		wantAttrs(t, p.Attributes, map[string]string{
			"messaging.system": "nats", "messaging.destination.name": "orders.created.1", "messaging.consumer.group.name": group,
			"server.address": "nats.example", "server.port": "4222",
		})
		for _, l := range p.Links {
			wantAttrs(t, l.Attributes, map[string]string{"link.trace_id": traceID1})
		}
	}
}
