package tracing

import (
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Option configures a [Tracer].
type Option interface{ apply(*config) }

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

type config struct {
	tracerProvider   trace.TracerProvider
	meterProvider    metric.MeterProvider
	propagator       propagation.TextMapPropagator
	conn             *nats.Conn
	address          string
	template         func(subject string) string
	filter           func(subject string, header nats.Header) bool
	spanAttributes   func(subject string, header nats.Header) []attribute.KeyValue
	metricAttributes func(subject string) []attribute.KeyValue
	topologyParent   bool
	bodySize         bool
	noSettleSpans    bool
}

// WithTracerProvider sets the provider of spans. Default, also for nil: the
// global provider.
func WithTracerProvider(p trace.TracerProvider) Option {
	return optionFunc(func(c *config) { c.tracerProvider = p })
}

// WithMeterProvider sets the provider of metrics. Default, also for nil: the
// global provider.
func WithMeterProvider(p metric.MeterProvider) Option {
	return optionFunc(func(c *config) { c.meterProvider = p })
}

// WithPropagators sets the propagator that writes context and baggage into
// headers and reads them; those that its Fields lists in any case. Default, also for
// nil: the global propagator, which propagates nothing until the program sets one.
func WithPropagators(p propagation.TextMapPropagator) Option {
	return optionFunc(func(c *config) { c.propagator = p })
}

// WithConnection records the server of nc as server.address and server.port.
// They follow reconnects, and are left out for a server in the same process. It
// also recognizes inboxes with the prefix of nc, and [Tracer.StartSend] respects
// the payload limit of nc. Default: no server, and the prefix _INBOX.
func WithConnection(nc *nats.Conn) Option {
	return optionFunc(func(c *config) { c.conn = nc })
}

// WithServerAddress records a fixed server.address and server.port, for instance
// of a proxy. It takes a host, host:port, or a URL, whose credentials it leaves
// out. Default, also if address is none of these: see [WithConnection], which
// takes precedence.
func WithServerAddress(address string) Option {
	return optionFunc(func(c *config) { c.address = address })
}

// WithDestinationTemplate sets the function that makes the cardinality of
// subjects low. f gets a subject and returns it with its variable tokens in
// braces: orders.created.0190 becomes orders.created.{order_id}. It returns ""
// for a subject it does not know, and a bounded subject as it is. f is called for
// every span and must be safe for concurrent use.
//
// The template is recorded as messaging.destination.template, and is the
// destination in span names and metrics. Default: no templates, so that span names
// and metrics have no subject. Templates of inboxes and $JS subjects are ignored.
func WithDestinationTemplate(f func(subject string) string) Option {
	return optionFunc(func(c *config) { c.template = f })
}

// WithFilter sets which messages are instrumented: those for which f returns
// true. The others are published and handled as without this package. A batch is
// always instrumented. Default: all.
func WithFilter(f func(subject string, header nats.Header) bool) Option {
	return optionFunc(func(c *config) { c.filter = f })
}

// WithSpanAttributes sets a function that returns attributes for the publish and
// process span of each message; samplers see them. A batch has none. Default: none.
func WithSpanAttributes(f func(subject string, header nats.Header) []attribute.KeyValue) Option {
	return optionFunc(func(c *config) { c.spanAttributes = f })
}

// WithMetricAttributes sets a function that returns attributes for the metrics of
// each message. They must be bounded. The subject is empty for a batch of several
// subjects. Default: none.
func WithMetricAttributes(f func(subject string) []attribute.KeyValue) Option {
	return optionFunc(func(c *config) { c.metricAttributes = f })
}

// WithTopologyParent makes the producer's span the parent of the process span, which
// then belongs to the producer's trace. The process span still links the
// producer, and also the span in its context, if there is one. Default: the
// producer is linked only. It has no effect on batches and with [WithUntrusted].
func WithTopologyParent() Option {
	return optionFunc(func(c *config) { c.topologyParent = true })
}

// WithBodySize records messaging.message.body.size, in bytes, on the spans of
// single messages. Default: not recorded.
func WithBodySize() Option {
	return optionFunc(func(c *config) { c.bodySize = true })
}

// WithoutSettleSpans leaves out the spans of Ack, Nak and Term. The process span
// still records the settlement, and the metrics count it. Default: one span for
// each.
func WithoutSettleSpans() Option {
	return optionFunc(func(c *config) { c.noSettleSpans = true })
}

// ProcessOption configures the processing and receiving of messages. A consumer
// can make its options once and use them for every message.
type ProcessOption interface {
	applyProcess(processConfig) processConfig
}

type processOptionFunc func(processConfig) processConfig

func (f processOptionFunc) applyProcess(c processConfig) processConfig { return f(c) }

// processConfig is passed by value, so that it stays on the stack.
type processConfig struct {
	relationship   string
	destination    string
	group          string
	untrusted      bool
	linkAttributes func(jetstream.Msg) []attribute.KeyValue
	attributes     []attribute.KeyValue
}

func newProcessConfig(opts []ProcessOption) (c processConfig) {
	for _, opt := range opts {
		c = opt.applyProcess(c)
	}
	return c
}

// WithRelationship sets link.relationship of the links to producers. Default:
// triggered_by, and received for [Tracer.Receive] and [Tracer.ReceiveBatch].
func WithRelationship(name string) ProcessOption {
	return processOptionFunc(func(c processConfig) processConfig { c.relationship = name; return c })
}

// WithConsumerGroup records name as messaging.consumer.group.name on spans and
// metrics. Use the name of a durable consumer or a queue group. Default: none,
// because the name of an ephemeral consumer is random, and every new name would
// start another time series.
func WithConsumerGroup(name string) ProcessOption {
	return processOptionFunc(func(c processConfig) processConfig { c.group = name; return c })
}

// WithUntrusted treats messages as sent by an untrusted producer: their context
// becomes a link and nothing else. Their baggage does not reach the handler,
// their sampling decision has no effect, and [WithTopologyParent] neither.
// Default: trusted.
func WithUntrusted() ProcessOption {
	return processOptionFunc(func(c processConfig) processConfig { c.untrusted = true; return c })
}

// WithDestination sets the destination in the names of spans that have no template:
// see [WithDestinationTemplate]. A batch has the template that all its messages
// share. name must be bounded, for instance the filter of the consumer. Default: the
// name of such a span is only the operation.
func WithDestination(name string) ProcessOption {
	return processOptionFunc(func(c processConfig) processConfig { c.destination = name; return c })
}

// WithLinkAttributes sets a function that returns attributes for the link to each
// message's producer, for instance the order's id. A message of a batch without
// a valid context has no link: its attributes are on an event of the span.
// Default: none.
func WithLinkAttributes(f func(jetstream.Msg) []attribute.KeyValue) ProcessOption {
	return processOptionFunc(func(c processConfig) processConfig { c.linkAttributes = f; return c })
}

// WithAttributes adds attributes to the span at its start, where samplers see
// them. Default: none.
func WithAttributes(attrs ...attribute.KeyValue) ProcessOption {
	return processOptionFunc(func(c processConfig) processConfig {
		c.attributes = append(c.attributes[:len(c.attributes):len(c.attributes)], attrs...)
		return c
	})
}
