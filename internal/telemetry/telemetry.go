package telemetry

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"go.opentelemetry.io/otel/metric"
	nometrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	notraces "go.opentelemetry.io/otel/trace/noop"
)

// Providers are the OpenTelemetry providers of one service.
type Providers struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagator     propagation.TextMapPropagator // from OTEL_PROPAGATORS

	spans   *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
}

// Option configures [Start].
type Option func(*options)

type options struct {
	processors  []sdktrace.SpanProcessor
	readers     []sdkmetric.Reader
	baggageKeys []string
	console     io.Writer
	renamable   bool
}

// WithSpanProcessor adds a processor, which gets each span before the exporters do.
// [Providers.Shutdown] shuts it down, and so does a [Start] that fails.
func WithSpanProcessor(p sdktrace.SpanProcessor) Option {
	return func(o *options) { o.processors = append(o.processors, p) }
}

// WithMetricReader adds a reader of metrics. [Providers.Shutdown] shuts it down, and so
// does a [Start] that fails.
func WithMetricReader(r sdkmetric.Reader) Option {
	return func(o *options) { o.readers = append(o.readers, r) }
}

// WithBaggageKeys copies the baggage members of these keys to attributes of each span.
// Name only keys that may be exported: baggage comes from other processes.
func WithBaggageKeys(keys ...string) Option {
	return func(o *options) { o.baggageKeys = append(o.baggageKeys, keys...) }
}

// WithConsoleWriter sets the destination of the exporter "console". Services that share
// a writer need one that is safe for concurrent use. Default: [os.Stdout].
func WithConsoleWriter(w io.Writer) Option {
	return func(o *options) { o.console = w }
}

// WithNameFromEnv lets OTEL_SERVICE_NAME, or service.name in OTEL_RESOURCE_ATTRIBUTES,
// replace the service's name. It is for a process that holds one service.
func WithNameFromEnv() Option {
	return func(o *options) { o.renamable = true }
}

// Start makes the providers of a service; see the package comment for the environment.
// It opens no connection: exporters report a collector that is away to OpenTelemetry's
// error handler. Its error names each variable that is wrong.
//
// The caller ends the providers with [Providers.Shutdown].
func Start(ctx context.Context, service string, opts ...Option) (*Providers, error) {
	o := options{console: os.Stdout}
	for _, opt := range opts {
		opt(&o)
	}
	var errs []error
	collect := func(err error) { errs = append(errs, err) }
	collect(check())
	propagator, err := newPropagator()
	collect(err)
	sampler, err := newSampler()
	collect(err)
	res, err := newResource(ctx, service, o.renamable)
	collect(err)
	exporters, err := o.exporters(ctx)
	collect(err)
	_, value := getenv("OTEL_SDK_DISABLED")
	disabled := strings.EqualFold(value, "true")
	err = errors.Join(errs...)
	for _, add := range exporters {
		if err == nil && !disabled {
			err = add()
		}
	}
	if err != nil {
		return nil, errors.Join(err, o.shutdown(ctx))
	}

	tracing := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res), sdktrace.WithSampler(sampler), sdktrace.WithRawSpanLimits(newSpanLimits()),
		// It is the first processor, so that the others see its attributes.
		sdktrace.WithSpanProcessor(baggageAttributes(o.baggageKeys)),
	}
	for _, p := range o.processors {
		tracing = append(tracing, sdktrace.WithSpanProcessor(p))
	}
	metering := []sdkmetric.Option{sdkmetric.WithResource(res)}
	for _, r := range o.readers {
		metering = append(metering, sdkmetric.WithReader(r))
	}
	p := &Providers{
		Propagator: propagator,
		spans:      sdktrace.NewTracerProvider(tracing...),
		metrics:    sdkmetric.NewMeterProvider(metering...),
	}
	p.TracerProvider, p.MeterProvider = p.spans, p.metrics
	if disabled { // no-op spans still pass on the context of a message
		p.TracerProvider, p.MeterProvider = notraces.NewTracerProvider(), nometrics.NewMeterProvider()
	}
	return p, nil
}

// shutdown ends the processors and readers of a start that fails.
func (o *options) shutdown(ctx context.Context) error {
	var errs []error
	for _, p := range o.processors {
		errs = append(errs, p.Shutdown(ctx))
	}
	for _, r := range o.readers {
		errs = append(errs, r.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// Shutdown exports the spans that have ended and the last metrics, and shuts all
// processors, readers and exporters down. It gives up when ctx ends. Spans that end
// later are lost. Only the first call has an effect.
func (p *Providers) Shutdown(ctx context.Context) error {
	// At the same time, so that a collector that does not answer the one leaves the
	// other its time.
	measured := make(chan error, 1)
	go func() {
		err := p.metrics.Shutdown(ctx)
		if errors.Is(err, sdkmetric.ErrReaderShutdown) {
			err = nil // not the first call
		}
		measured <- err
	}()
	err := p.spans.Shutdown(ctx)
	return errors.Join(err, <-measured)
}

// newResource describes the service, with a random service.instance.id.
func newResource(ctx context.Context, service string, renamable bool) (*resource.Resource, error) {
	name := resource.WithAttributes(semconv.ServiceName(service))
	sources := []resource.Option{resource.WithTelemetrySDK(), resource.WithService(), name, resource.WithFromEnv()}
	if !renamable {
		sources = append(sources, name)
	}
	res, err := resource.New(ctx, sources...)
	if err != nil {
		return nil, wrong("OTEL_RESOURCE_ATTRIBUTES", "key=value, several separated by commas", err)
	}
	return res, nil
}
