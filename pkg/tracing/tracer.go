package tracing

import (
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope names this instrumentation in every span it makes.
const scope = "ordertrail/pkg/tracing"

// Tracer makes the spans of one service's traffic with JetStream. It is safe
// for concurrent use and meant to be made once. Make it with [New].
type Tracer struct {
	fixedTracer     trace.Tracer                  // nil: look up the global provider
	fixedPropagator propagation.TextMapPropagator // nil: look up the global one
	template        func(subject string) string   // nil: no templates
	topologyParent  bool
	server          []attribute.KeyValue

	tracers atomic.Pointer[tracerOf]
	fields  atomic.Pointer[fieldsOf]
	shapes  shapeCache
}

// New returns a Tracer. Without options it uses the global tracer provider and
// the global propagator as they are at the time of each span, so it can be made
// before [go.opentelemetry.io/otel.SetTracerProvider] is called; records no
// server address; and knows no destination templates.
func New(opts ...Option) *Tracer {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	t := &Tracer{
		fixedPropagator: o.propagator,
		template:        o.template,
		topologyParent:  o.topologyParent,
	}
	if o.provider != nil {
		t.fixedTracer = newTracer(o.provider)
	}
	if o.host != "" {
		t.server = append(t.server, semconv.ServerAddress(o.host))
		if o.port > 0 {
			t.server = append(t.server, semconv.ServerPort(o.port))
		}
	}
	return t
}

func newTracer(p trace.TracerProvider) trace.Tracer {
	return p.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
}
