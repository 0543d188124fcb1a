package tracing

import (
	"net/url"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Option configures a [Tracer].
type Option func(*options)

type options struct {
	provider       trace.TracerProvider
	meters         metric.MeterProvider
	propagator     propagation.TextMapPropagator
	server         []attribute.KeyValue
	template       func(string) string
	topologyParent bool
	bodySize       bool
}

// WithTracerProvider sets where spans come from. Default, and for nil: the
// global provider, looked up for each span.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(o *options) { o.provider = p }
}

// WithMeterProvider sets where metrics go, see the package comment. Default, and
// for nil: the global provider, looked up for each span.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(o *options) { o.meters = p }
}

// WithPropagator sets which headers carry a span's context and baggage.
// Default, and for nil: the global propagator, looked up for each message.
// OpenTelemetry's global default propagates nothing.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(o *options) { o.propagator = p }
}

// WithServerAddress records server.address and server.port on every span and
// metric. It takes a host, host:port, or a URL as [nats.Conn.ConnectedUrl] returns
// it, of which the credentials and all the rest are left out. Default, and for
// what is none of these: neither attribute.
func WithServerAddress(address string) Option {
	return func(o *options) { o.server = serverAttributes(address) }
}

func serverAttributes(address string) []attribute.KeyValue {
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	attrs := []attribute.KeyValue{semconv.ServerAddress(u.Hostname())}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		attrs = append(attrs, semconv.ServerPort(port))
	}
	return attrs
}

// WithDestinationTemplate tells how to make a subject's cardinality low: f gets
// a concrete subject and returns it with its variable tokens in braces, so that
// orders.created.0190 becomes orders.created.{order_id}, or "" if it knows no
// template. f runs once for each span and must be safe for concurrent use.
//
// The template is recorded as messaging.destination.template. Span names use it
// without the tokens in braces: process orders.created. Subjects that are of
// low cardinality as they are can be said to be so by returning them unchanged.
//
// Without a template nothing says that a subject is bounded, so it is kept out
// of span names: processing is then named after the stream (process ORDERS),
// publishing after the operation alone (publish), see "Span name" in the
// semantic conventions for messaging. Inboxes and $JS subjects are never used,
// even if f returns them.
func WithDestinationTemplate(f func(subject string) string) Option {
	return func(o *options) { o.template = f }
}

// TopologyParent makes [Tracer.Process] continue the producer's trace: the
// message's creation context becomes the parent of the process span. It is
// still linked, and so is a span that ctx already holds, which would have been
// the parent. Default: a process span never is a producer's child. It has no
// effect on [Tracer.ProcessBatch], which has many producers, nor together with
// [Untrusted].
func TopologyParent() Option {
	return func(o *options) { o.topologyParent = true }
}

// WithBodySize records messaging.message.body.size, in bytes, on the spans of
// single messages. Default: it is not recorded, as the conventions have it.
func WithBodySize() Option {
	return func(o *options) { o.bodySize = true }
}
