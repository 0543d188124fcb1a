package telemetry

import (
	"io"
	"os"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Option configures [Start].
type Option func(*options)

type options struct {
	processors  []sdktrace.SpanProcessor
	readers     []sdkmetric.Reader
	global      bool
	baggageKeys []string
	console     io.Writer
	attributes  []attribute.KeyValue
}

func newOptions(opts []Option) options {
	o := options{console: os.Stdout}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithSpanProcessor adds a processor, such as an in-process store of spans. It
// may be given several times; the exporters come after all of them.
// [Providers.Shutdown] shuts it down. Default: none.
func WithSpanProcessor(p sdktrace.SpanProcessor) Option {
	return func(o *options) { o.processors = append(o.processors, p) }
}

// WithMetricReader adds a reader of metrics, such as an in-process one, beside
// those of the exporters. It may be given several times. [Providers.Shutdown]
// shuts it down. Default: none.
func WithMetricReader(r sdkmetric.Reader) Option {
	return func(o *options) { o.readers = append(o.readers, r) }
}

// WithGlobal also makes the providers OpenTelemetry's global ones. Default: the
// globals are left alone, because services may share a process.
func WithGlobal() Option {
	return func(o *options) { o.global = true }
}

// WithBaggageKeys copies the baggage members of these keys onto every span as
// attributes when it starts. Name only what may be exported: baggage comes from
// other processes. Default: none.
func WithBaggageKeys(keys ...string) Option {
	return func(o *options) { o.baggageKeys = append(o.baggageKeys, keys...) }
}

// WithConsoleWriter sets where the exporters called console write. Services that share
// a writer need one that is safe for concurrent use. Default, and for nil:
// [os.Stdout].
func WithConsoleWriter(w io.Writer) Option {
	return func(o *options) {
		if w != nil {
			o.console = w
		}
	}
}

// WithResourceAttributes adds attributes that describe the service.
// OTEL_RESOURCE_ATTRIBUTES goes before them. Default: none.
func WithResourceAttributes(attrs ...attribute.KeyValue) Option {
	return func(o *options) { o.attributes = append(o.attributes, attrs...) }
}
