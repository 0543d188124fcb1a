package tracing

import (
	"context"
	"reflect"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// tracerOf is a tracer and where it comes from.
type tracerOf struct {
	provider trace.TracerProvider
	trace.Tracer
	// inert says that it makes no spans, so that nothing needs to be prepared
	// for them.
	inert bool
}

func newTracer(p trace.TracerProvider) *tracerOf {
	t := &tracerOf{provider: p, Tracer: p.Tracer(scope, trace.WithSchemaURL(schemaURL))}
	_, t.inert = t.Tracer.(noop.Tracer)
	return t
}

// startInert is Start of an inert tracer, which passes on the span context of ctx.
func (t *tracerOf) startInert(ctx context.Context) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, noSpan
	}
	return t.Start(ctx, "")
}

// tracer returns the tracer to use now. The global provider may be replaced at
// any time, so only its identity is trusted. Providers that are not pointers
// may not be comparable; asking them again is cheap for the one that exists,
// the no-op provider.
func (t *Tracer) tracer() *tracerOf {
	if t.fixedTracer != nil {
		return t.fixedTracer
	}
	p := otel.GetTracerProvider()
	if reflect.ValueOf(p).Kind() != reflect.Pointer {
		return newTracer(p)
	}
	if last := t.tracers.Load(); last != nil && last.provider == p {
		return last
	}
	now := newTracer(p)
	t.tracers.Store(now)
	return now
}

// instruments returns the instruments to use now; see tracer.
func (t *Tracer) instruments() *instruments {
	if t.fixedInstruments != nil {
		return t.fixedInstruments
	}
	p := otel.GetMeterProvider()
	last := t.meters.Load()
	if last != nil && sameMeterProvider(last.provider, p) {
		return last
	}
	now := newInstruments(p)
	t.meters.Store(now)
	return now
}

func sameMeterProvider(a, b metric.MeterProvider) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Comparable() && a == b
}

// fieldsOf remembers the header names of the propagator last seen: asking a
// composite propagator builds a map each time.
type fieldsOf struct {
	id         propagatorID
	propagator propagation.TextMapPropagator // keeps the address in id taken
	names      []string
}

// propagatorID tells propagators apart. They cannot be compared with ==: the
// composite one is a slice.
type propagatorID struct {
	kind    reflect.Type
	address uintptr
	length  int
}

func identify(p propagation.TextMapPropagator) (propagatorID, bool) {
	v := reflect.ValueOf(p)
	switch v.Kind() {
	case reflect.Pointer:
		return propagatorID{v.Type(), v.Pointer(), 0}, true
	case reflect.Slice:
		return propagatorID{v.Type(), v.Pointer(), v.Len()}, true
	default:
		return propagatorID{v.Type(), 0, 0}, v.Kind() == reflect.Struct && v.NumField() == 0
	}
}

// propagation returns the propagator to use now and the headers it writes.
func (t *Tracer) propagation() (propagation.TextMapPropagator, []string) {
	p := t.fixedPropagator
	if len(t.fixedFields) > 0 {
		return p, t.fixedFields
	}
	if p == nil {
		p = otel.GetTextMapPropagator()
	}
	id, known := identify(p)
	if last := t.fields.Load(); known && last != nil && last.id == id {
		return p, last.names
	}
	names := p.Fields()
	// The global delegate has no fields until it is given something to
	// delegate to, so emptiness is not worth remembering.
	if known && len(names) > 0 {
		t.fields.Store(&fieldsOf{id: id, propagator: p, names: names})
	}
	return p, names
}
