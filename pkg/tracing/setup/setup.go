// Package setup makes the OpenTelemetry providers of one service.
package setup

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

type Providers struct {
	TracerProvider *sdktrace.TracerProvider
	Propagator     propagation.TextMapPropagator
}

type options struct{ processors []sdktrace.SpanProcessor }

type Option func(*options)

func WithSpanProcessor(p sdktrace.SpanProcessor) Option {
	return func(o *options) { o.processors = append(o.processors, p) }
}
func WithGlobal() Option                                        { return func(*options) {} }
func WithBaggageKeys(keys ...string) Option                     { return func(*options) {} }
func WithConsoleWriter(w io.Writer) Option                      { return func(*options) {} }
func WithResourceAttributes(attrs ...attribute.KeyValue) Option { return func(*options) {} }

func Start(ctx context.Context, service string, opts ...Option) (*Providers, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	var to []sdktrace.TracerProviderOption
	for _, p := range o.processors {
		to = append(to, sdktrace.WithSpanProcessor(p))
	}
	return &Providers{
		TracerProvider: sdktrace.NewTracerProvider(to...),
		Propagator:     propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}, nil
}

func (p *Providers) Shutdown(ctx context.Context) error { return p.TracerProvider.Shutdown(ctx) }

func LogHandler(next slog.Handler) slog.Handler { return next }
