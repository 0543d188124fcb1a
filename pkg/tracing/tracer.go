package tracing

import (
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// scope names this instrumentation in every span it makes.
const scope = "example.org/ordertrail/pkg/tracing"

const schemaURL = semconv.SchemaURL

// Tracer makes the spans of one service's traffic with JetStream. It is safe
// for concurrent use and meant to be made once. Make it with [New].
type Tracer struct {
	fixedTracer      *tracerOf                   // nil: look up the global provider
	fixedInstruments *instruments                // nil: look up the global provider
	fixedPropagator  *propagatorOf               // nil: look up the global one
	template         func(subject string) string // nil: no templates
	topologyParent   bool
	bodySize         bool
	server           []attribute.KeyValue

	tracers     atomic.Pointer[tracerOf]
	meters      atomic.Pointer[instruments]
	propagators atomic.Pointer[propagatorOf]
	shapes      shapeCache
	flying      inFlight
}

// New returns a Tracer. Without options it uses OpenTelemetry's global providers
// and propagator as they are at the time of each span, so it can be made before
// [go.opentelemetry.io/otel.SetTracerProvider] is called; records no server
// address; and knows no destination templates.
func New(opts ...Option) *Tracer {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	t := &Tracer{
		template:       o.template,
		topologyParent: o.topologyParent,
		bodySize:       o.bodySize,
		server:         o.server,
		flying:         inFlight{idle: make(chan struct{}, 1)},
	}
	if o.provider != nil {
		t.fixedTracer = newTracer(o.provider)
	}
	if o.meters != nil {
		t.fixedInstruments = newInstruments(o.meters)
	}
	if o.propagator != nil {
		t.fixedPropagator = newPropagator(o.propagator)
	}
	return t
}
