package tracing_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
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

// Spans of one shape start in the same memory, one after the other. What one of
// them was given never shows on another, nor in what a sampler has kept.
func TestStartsShareNothing(t *testing.T) {
	k := &keeper{}
	tap := newTap(k)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 50 {
				n := fmt.Sprintf("%032x", 1+g*50+i)
				msg := arrived(nats.Header{"traceparent": {"00-" + n + "-" + spanID1 + "-01"}})
				msg.subject = "orders.created." + n
				_ = tap.Process(context.Background(), msg, func(context.Context, jetstream.Msg) error { return nil },
					tracing.Attributes(attribute.String("n", n)))
				bare := arrived(nil)
				bare.subject = "orders.created.bare"
				_ = tap.Process(context.Background(), bare, nothing)
			}
		})
	}
	all.Wait()
	bare := 0
	check := func(attrs []attribute.KeyValue, links []trace.Link) {
		t.Helper()
		n := attr(attrs, "n")
		if n == "" {
			bare++
			wantAttrs(t, attrs, map[string]string{"messaging.destination.name": "orders.created.bare", "server.address": "nats.example"})
			if len(links) != 0 {
				t.Errorf("links of another: %v", links)
			}
			return
		}
		wantAttrs(t, attrs, map[string]string{
			"messaging.destination.name": "orders.created." + n, "messaging.destination.template": "orders.created.{order_id}",
			"messaging.consumer.group.name": "payments", "messaging.operation.type": "process", "messaging.system": "nats",
		})
		if len(links) != 1 || links[0].SpanContext.TraceID().String() != n {
			t.Fatalf("links are %v, want one to %s", links, n)
		}
		wantAttrs(t, links[0].Attributes, map[string]string{
			"link.trace_id": n, "messaging.destination.name": "orders.created." + n, "link.relationship": "triggered_by"})
	}
	for _, p := range k.seen {
		check(p.Attributes, p.Links)
	}
	for _, s := range tap.spans.Ended() {
		var links []trace.Link
		for _, l := range s.Links() {
			links = append(links, trace.Link{SpanContext: l.SpanContext, Attributes: l.Attributes})
		}
		check(s.Attributes(), links)
	}
	if len(k.seen) != 400 || len(tap.spans.Ended()) != 200 || bare == 0 {
		t.Errorf("%d sampled of %d, %d bare", len(tap.spans.Ended()), len(k.seen), bare)
	}
}

// adding is a tracer that adds a start option to those it is given.
type adding struct {
	trace.Tracer
	option trace.SpanStartOption
}

func (a adding) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return a.Tracer.Start(ctx, name, append(options, a.option)...)
}

type addingProvider struct {
	trace.TracerProvider
	option trace.SpanStartOption
}

func (p addingProvider) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return adding{p.TracerProvider.Tracer(name, opts...), p.option}
}

// A tracer that appends to the options does not write into those of the next span.
func TestStartOptionsAreNotOverwritten(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	tracer := tracing.New(tracing.WithPropagator(w3c()), tracing.WithDestinationTemplate(byOrder),
		tracing.WithTracerProvider(addingProvider{tap.provider, trace.WithAttributes(attribute.Int("added", 1))}))
	_ = tracer.Process(context.Background(), arrived(nil), nothing)
	_ = tracer.Process(context.Background(), arrived(nats.Header{"traceparent": {valid}}), nothing)
	spans := tap.named("process orders.created")
	if len(spans) != 2 || len(spans[1].Links()) != 1 {
		t.Fatalf("%d spans, the second with links %v", len(spans), spans[len(spans)-1].Links())
	}
	for _, s := range spans {
		wantAttrs(t, s.Attributes(), map[string]string{"added": "1"})
	}
}

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
	ctx := context.Background()
	_, send := tap.StartSend(ctx, nats.NewMsg("orders.created.1"))
	send.End(nil, nil)
	_, _ = tap.Receive(ctx, one)
	_, _ = tap.ReceiveBatch(ctx, several)
	_ = tap.Process(ctx, msg, ack)
	_ = tap.ProcessBatch(ctx, []jetstream.Msg{msg}, func(context.Context, []jetstream.Msg) error { return nil })

	type seen struct {
		name, class, template string
		kind                  trace.SpanKind
		links                 int
	}
	template := "orders.created.{order_id}"
	want := []seen{
		{"publish orders.created", "send", template, trace.SpanKindProducer, 0},
		{"receive orders.created", "receive", template, trace.SpanKindClient, 1},
		{"receive ORDERS", "receive", "", trace.SpanKindClient, 1},
		{"process orders.created", "process", template, trace.SpanKindConsumer, 1},
		{"ack orders.created", "settle", template, trace.SpanKindClient, 0},
		{"process ORDERS", "process", "", trace.SpanKindConsumer, 1},
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
