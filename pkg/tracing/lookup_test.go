package tracing

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// A Tracer made before anything is set up follows the globals, each time they
// change.
func TestGlobals(t *testing.T) {
	oldProvider, oldPropagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	t.Cleanup(func() {
		otel.SetTracerProvider(oldProvider)
		otel.SetTextMapPropagator(oldPropagator)
	})
	tracer := New()
	send := func(header nats.Header) nats.Header {
		_, s := tracer.StartSend(context.Background(), &nats.Msg{Subject: "a", Header: header})
		s.End(nil, nil)
		return s.Msg.Header
	}
	send(nil) // OpenTelemetry's own delegates, unless an earlier run replaced them
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	for range 2 {
		spans := tracetest.NewSpanRecorder()
		otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		for range 2 {
			if h := send(nats.Header{"tracestate": {"old=1"}}); len(h) != 1 || h.Get("traceparent") == "" {
				t.Errorf("header is %v", h)
			}
		}
		if n := len(spans.Ended()); n != 2 {
			t.Errorf("%d spans, want 2", n)
		}
	}
	otel.SetTracerProvider(noop.NewTracerProvider())
	if h := send(nats.Header{"tracestate": {"old=1"}}); len(h) != 0 {
		t.Errorf("header is %v without a provider", h)
	}
}

func TestPropagatorIdentity(t *testing.T) {
	a := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{})
	b := propagation.NewCompositeTextMapPropagator(propagation.Baggage{})
	tracer := New()
	tracer.fixedPropagator = &propagatorOf{TextMapPropagator: a}
	for _, want := range [][]string{{"traceparent", "tracestate"}, {"baggage"}} {
		for range 2 {
			got := slices.Clone(tracer.propagation().fields)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("fields are %v, want %v", got, want)
			}
		}
		tracer.fixedPropagator = &propagatorOf{TextMapPropagator: b}
	}
	tracer.fixedPropagator = &propagatorOf{TextMapPropagator: propagation.Baggage{}}
	if got := tracer.propagation().fields; !slices.Equal(got, []string{"baggage"}) {
		t.Errorf("fields are %v", got)
	}
}

func TestShapesAreBounded(t *testing.T) {
	tracer := New(WithDestinationTemplate(func(s string) string { return s }))
	for i := range 2 * maxShapes {
		key := shapeKey{operation: opProcess, template: fmt.Sprint(i)}
		if s := tracer.shape(&key); s.name != fmt.Sprintf("process %d", i) {
			t.Fatalf("name is %s", s.name)
		}
	}
	if n := len(*tracer.shapes.shapes.Load()); n != maxShapes {
		t.Errorf("%d shapes kept, want %d", n, maxShapes)
	}
	key := shapeKey{operation: opAck, template: "0"}
	known := shapeKey{operation: opProcess, template: "0"}
	if first := tracer.shape(&known); first != tracer.shape(&known) {
		t.Error("a known shape was made again")
	}
	if s := tracer.shape(&key); s.name != "ack 0" {
		t.Errorf("name is %s", s.name)
	}
}

// tenants is a propagator that names the headers of W3C alone and puts more than
// a span into the context.
type tenants struct{ propagation.TraceContext }

type tenantKey struct{}

func (p tenants) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	return context.WithValue(p.TraceContext.Extract(ctx, carrier), tenantKey{}, carrier.Get("tenant"))
}

// What a propagator of the user's own puts into the context reaches the handler,
// whatever it says about its headers, and whether the span is a root or not.
func TestPropagatorOfOnesOwn(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ambient, span := provider.Tracer("test").Start(context.Background(), "ambient")
	defer span.End()
	for _, p := range []propagation.TextMapPropagator{tenants{}, propagation.NewCompositeTextMapPropagator(tenants{}, propagation.Baggage{})} {
		for _, ctx := range []context.Context{context.Background(), ambient} {
			for _, parent := range []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ""} {
				tracer := New(WithTracerProvider(provider), WithPropagator(p))
				msg := stored{header: nats.Header{"traceparent": {parent}, "tenant": {"blue"}}}
				_ = tracer.Process(ctx, msg, func(ctx context.Context, _ jetstream.Msg) error {
					if got := ctx.Value(tenantKey{}); got != "blue" {
						t.Errorf("%T, traceparent %q: the handler finds tenant %v", p, parent, got)
					}
					return nil
				})
			}
		}
	}
	for _, s := range spans.Ended() {
		if parent := trace.SpanContextFromContext(ambient).SpanID(); s.Parent().IsValid() && s.Parent().SpanID() != parent {
			t.Errorf("the parent is %s", s.Parent().SpanID())
		}
	}
}

// stored is a message outside any server.
type stored struct {
	jetstream.Msg
	header nats.Header
}

func (m stored) Headers() nats.Header                      { return m.header }
func (m stored) Subject() string                           { return "a" }
func (m stored) Metadata() (*jetstream.MsgMetadata, error) { return nil, jetstream.ErrNotJSMessage }
