package tracing

import (
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
)

// ProcessOption configures one call of [Tracer.Process] or
// [Tracer.ProcessBatch]. A consumer may make its options once and use them for
// every message.
type ProcessOption func(processOptions) processOptions

// processOptions is passed by value, so that it stays on the stack.
type processOptions struct {
	relationship   string
	destination    string
	ephemeral      bool
	untrusted      bool
	linkAttributes func(jetstream.Msg) []attribute.KeyValue
	attributes     []attribute.KeyValue
}

func (o *processOptions) apply(opts []ProcessOption) {
	for _, opt := range opts {
		*o = opt(*o)
	}
}

// Relationship sets link.relationship of the links to producers. Default:
// triggered_by.
func Relationship(name string) ProcessOption {
	return func(o processOptions) processOptions { o.relationship = name; return o }
}

// Ephemeral says that the consumer has no durable name. Default: the name of
// the consumer in a message's metadata is recorded as
// messaging.consumer.group.name, which an ephemeral consumer's random name is
// not.
func Ephemeral() ProcessOption {
	return func(o processOptions) processOptions { o.ephemeral = true; return o }
}

// Untrusted says that messages come from strangers: their context becomes a link
// and nothing more. Their baggage does not reach the handler, [LinkAware] does
// not listen to their sampling decision, [TopologyParent] has no effect.
// Default: trusted.
func Untrusted() ProcessOption {
	return func(o processOptions) processOptions { o.untrusted = true; return o }
}

// Destination names the destination in span names, for instance by what a
// consumer filters. It must be of low cardinality. Default: for a batch the
// name of the stream; for a single message its template without the variable
// tokens, else the name of the stream.
func Destination(name string) ProcessOption {
	return func(o processOptions) processOptions { o.destination = name; return o }
}

// LinkAttributes adds attributes to the link to each message's producer, such
// as the id of the order, which on a batch's span would have many values. f runs
// once for each message with a valid context. Default: none.
func LinkAttributes(f func(jetstream.Msg) []attribute.KeyValue) ProcessOption {
	return func(o processOptions) processOptions { o.linkAttributes = f; return o }
}

// Attributes adds attributes to the process span at its start, where samplers
// see them. Default: none.
func Attributes(attrs ...attribute.KeyValue) ProcessOption {
	return func(o processOptions) processOptions {
		o.attributes = append(o.attributes[:len(o.attributes):len(o.attributes)], attrs...)
		return o
	}
}
