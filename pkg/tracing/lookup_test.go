package tracing

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
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
	tracer.fixedPropagator = a
	for _, want := range [][]string{{"traceparent", "tracestate"}, {"baggage"}} {
		for range 2 {
			_, got := tracer.propagation()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("fields are %v, want %v", got, want)
			}
		}
		tracer.fixedPropagator = b
	}
	tracer.fixedPropagator = propagation.Baggage{}
	if _, got := tracer.propagation(); !slices.Equal(got, []string{"baggage"}) {
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
