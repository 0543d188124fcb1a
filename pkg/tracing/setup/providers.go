package setup

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/contrib/processors/baggagecopy"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Providers is what one service traces with.
type Providers struct {
	TracerProvider *sdktrace.TracerProvider
	// Propagator carries W3C Trace Context and W3C Baggage.
	Propagator propagation.TextMapPropagator
}

// Start makes the providers of service from the environment, see the package
// comment. service becomes service.name and must not be empty. It opens no
// connection yet: a collector that is away is not an error, its exporter reports
// to OpenTelemetry's error handler.
//
// The caller shuts the providers down.
func Start(ctx context.Context, service string, opts ...Option) (*Providers, error) {
	o := newOptions(opts)
	p := &Providers{
		Propagator: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}
	var err error
	if disabled() {
		p.TracerProvider = noProvider(ctx)
	} else if p.TracerProvider, err = newProvider(ctx, service, o); err != nil {
		return nil, err
	}
	if o.global {
		otel.SetTracerProvider(p.TracerProvider)
		otel.SetTextMapPropagator(p.Propagator)
	}
	return p, nil
}

// Shutdown exports the spans that have ended and releases everything Start made.
// It gives up when ctx ends, and then returns its error. Spans that end later
// are lost. Only the first call does something; the next ones return nil.
func (p *Providers) Shutdown(ctx context.Context) error {
	return p.TracerProvider.Shutdown(ctx)
}

// noProvider returns a provider whose tracers make no spans: what the SDK gives
// after its shutdown, and what OTEL_SDK_DISABLED asks for.
func noProvider(ctx context.Context) *sdktrace.TracerProvider {
	p := sdktrace.NewTracerProvider()
	_ = p.Shutdown(context.WithoutCancel(ctx)) // has nothing to fail with
	return p
}

func newProvider(ctx context.Context, service string, o options) (*sdktrace.TracerProvider, error) {
	// What can be wrong without leaving anything behind comes first.
	resource, err := newResource(ctx, service, o)
	if err != nil {
		return nil, err
	}
	sampler, err := newSampler()
	if err != nil {
		return nil, err
	}
	limits, err := newSpanLimits()
	if err != nil {
		return nil, err
	}
	exporters, err := newExporters(ctx, o)
	if err != nil {
		return nil, err
	}

	all := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(resource),
		sdktrace.WithSampler(sampler),
		sdktrace.WithRawSpanLimits(limits),
	}
	if len(o.baggageKeys) > 0 {
		// First, so that the other processors see its attributes at the start.
		all = append(all, sdktrace.WithSpanProcessor(baggagecopy.NewSpanProcessor(func(m baggage.Member) bool {
			return slices.Contains(o.baggageKeys, m.Key())
		})))
	}
	for _, p := range o.processors {
		all = append(all, sdktrace.WithSpanProcessor(p))
	}
	for _, e := range exporters {
		all = append(all, sdktrace.WithBatcher(e))
	}
	return sdktrace.NewTracerProvider(all...), nil
}

// closeAll shuts exporters down that will not be used.
func closeAll(ctx context.Context, exporters []sdktrace.SpanExporter) error {
	var err error
	for _, e := range exporters {
		err = errors.Join(err, e.Shutdown(ctx))
	}
	return err
}
