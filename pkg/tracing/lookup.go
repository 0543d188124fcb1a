package tracing

import (
	"context"
	"reflect"

	"github.com/nats-io/nats.go"
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

// propagatorOf is a propagator and what it is asked for once.
type propagatorOf struct {
	propagation.TextMapPropagator
	id     propagatorID
	fields []string // the headers it writes
	// onlyW3C says that it reads nothing into a context but a remote span and
	// baggage. Whoever else names these headers may read more.
	onlyW3C bool
}

func newPropagator(p propagation.TextMapPropagator) *propagatorOf {
	return &propagatorOf{TextMapPropagator: p, id: identify(p), fields: p.Fields(), onlyW3C: onlyW3C(p)}
}

// spanContext reads the header of a message into r and returns the context that
// the message was created in.
func (p *propagatorOf) spanContext(h nats.Header, r *reading) trace.SpanContext {
	r.read(h, p)
	return trace.SpanContextFromContext(p.Extract(context.Background(), r))
}

// composite is the type of several propagators together.
var composite = reflect.TypeOf(propagation.NewCompositeTextMapPropagator())

func onlyW3C(p propagation.TextMapPropagator) bool {
	switch p.(type) {
	case propagation.TraceContext, propagation.Baggage:
		return true
	}
	if reflect.TypeOf(p) != composite {
		return false
	}
	for _, part := range reflect.ValueOf(p).Seq2() {
		if one, ok := part.Interface().(propagation.TextMapPropagator); !ok || !onlyW3C(one) {
			return false
		}
	}
	return true
}

// propagatorID tells propagators apart. They cannot be compared with ==: the
// composite one is a slice. The zero value is that of one that cannot be told.
type propagatorID struct {
	kind    reflect.Type
	address uintptr
	length  int
}

func identify(p propagation.TextMapPropagator) propagatorID {
	v := reflect.ValueOf(p)
	switch v.Kind() {
	case reflect.Pointer:
		return propagatorID{v.Type(), v.Pointer(), 0}
	case reflect.Slice:
		return propagatorID{v.Type(), v.Pointer(), v.Len()}
	case reflect.Struct:
		if v.NumField() == 0 {
			return propagatorID{v.Type(), 0, 0}
		}
	}
	return propagatorID{}
}

// propagation returns the propagator to use now. The global delegate has no
// fields until it is given something to delegate to, so emptiness is not worth
// remembering.
func (t *Tracer) propagation() *propagatorOf {
	if t.fixedPropagator != nil && len(t.fixedPropagator.fields) > 0 {
		return t.fixedPropagator
	}
	var p propagation.TextMapPropagator
	if t.fixedPropagator != nil {
		p = t.fixedPropagator.TextMapPropagator
	} else {
		p = otel.GetTextMapPropagator()
	}
	id := identify(p)
	if last := t.propagators.Load(); last != nil && last.id == id && id.kind != nil {
		return last
	}
	now := newPropagator(p)
	if id.kind != nil && len(now.fields) > 0 {
		t.propagators.Store(now)
	}
	return now
}
