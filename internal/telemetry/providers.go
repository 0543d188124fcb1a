package telemetry

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/contrib/processors/baggagecopy"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Providers is what one service traces and measures with.
type Providers struct {
	TracerProvider *sdktrace.TracerProvider
	MeterProvider  *sdkmetric.MeterProvider
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
	if disabled() {
		p.disable(ctx)
	} else if err := p.enable(ctx, service, o); err != nil {
		return nil, err
	}
	if o.global {
		otel.SetTracerProvider(p.TracerProvider)
		otel.SetMeterProvider(p.MeterProvider)
		otel.SetTextMapPropagator(p.Propagator)
	}
	return p, nil
}

// Shutdown exports the spans that have ended and the last metrics, and releases
// everything Start made. It gives up when ctx ends, and then returns its error.
// Spans that end later are lost: let the service finish first, with
// [tracing.Tracer.Shutdown]. Only the first call does something; the next ones
// return nil.
func (p *Providers) Shutdown(ctx context.Context) error {
	// Beside each other, or a collector that does not answer would have the spans
	// use up the time of the metrics.
	measured := make(chan error, 1)
	go func() {
		err := p.MeterProvider.Shutdown(ctx)
		if errors.Is(err, sdkmetric.ErrReaderShutdown) {
			err = nil // this is not the first call
		}
		measured <- err
	}()
	err := p.TracerProvider.Shutdown(ctx)
	return errors.Join(err, <-measured)
}

// disable makes providers that make nothing: what the SDK gives after its
// shutdown, and what OTEL_SDK_DISABLED asks for.
func (p *Providers) disable(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	p.TracerProvider, p.MeterProvider = sdktrace.NewTracerProvider(), sdkmetric.NewMeterProvider()
	_ = p.TracerProvider.Shutdown(ctx) // neither has anything to fail with
	_ = p.MeterProvider.Shutdown(ctx)
}

func (p *Providers) enable(ctx context.Context, service string, o options) error {
	// What can be wrong without leaving anything behind comes first.
	resource, err := newResource(ctx, service, o)
	if err != nil {
		return err
	}
	sampler, err := newSampler()
	if err != nil {
		return err
	}
	limits, err := newSpanLimits()
	if err != nil {
		return err
	}
	spans, err := newSpanExporters(ctx, o)
	if err != nil {
		return err
	}
	numbers, err := newMetricExporters(ctx, o)
	if err != nil {
		return errors.Join(err, closeAll(ctx, spans))
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
	for _, e := range spans {
		all = append(all, sdktrace.WithBatcher(e))
	}
	p.TracerProvider = sdktrace.NewTracerProvider(all...)

	meters := []sdkmetric.Option{sdkmetric.WithResource(resource)}
	for _, r := range o.readers {
		meters = append(meters, sdkmetric.WithReader(r))
	}
	for _, e := range numbers {
		meters = append(meters, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(e)))
	}
	p.MeterProvider = sdkmetric.NewMeterProvider(meters...)
	return nil
}
