package tracing

import (
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// RelationshipKey is the link attribute that says why a span links another:
// triggered_by, payment_confirmation. [Relationship] sets it on the links that
// processing makes; pass it to [Tracer.Link] for those made by hand.
const RelationshipKey = attribute.Key("link.relationship")

// Attributes the conventions do not have. Those of NATS are named the way the
// conventions name other systems' own.
const (
	linkTraceIDKey   = attribute.Key("link.trace_id") // makes backlinks searchable
	linkEventTypeKey = attribute.Key("link.event_type")
	linkUntrustedKey = attribute.Key("link.untrusted")

	streamKey           = attribute.Key("messaging.nats.stream.name")
	streamSequenceKey   = attribute.Key("messaging.nats.message.stream_sequence")
	consumerSequenceKey = attribute.Key("messaging.nats.message.consumer_sequence")
	deliveryCountKey    = attribute.Key("messaging.nats.message.delivery_count")
	duplicateKey        = attribute.Key("messaging.nats.message.duplicate")
	settlementKey       = attribute.Key("messaging.nats.message.settlement")
)

// Headers of CloudEvents 1.0 in binary mode.
const (
	ceID   = "ce-id"
	ceType = "ce-type"
)

// msgSize is set by consumers of headers alone.
const msgSize = "Nats-Msg-Size"

// first returns the first value of key. Unlike [nats.Header.Get] it takes a
// header without values.
func first(h nats.Header, key string) string {
	if vs := h[key]; len(vs) > 0 {
		return vs[0]
	}
	return ""
}

// messageID returns the id the producer gave a message, or "".
func messageID(h nats.Header) string {
	if id := first(h, ceID); id != "" {
		return id
	}
	return first(h, jetstream.MsgIDHeader)
}

// describeMessage records what tells one message from the next. Callers see to
// it that span is recording. id is the producer's, or "".
func (t *Tracer) describeMessage(span trace.Span, id string, msg jetstream.Msg, md *jetstream.MsgMetadata) {
	attrs := make([]attribute.KeyValue, 0, 6)
	if md != nil {
		if id == "" {
			id = strconv.FormatUint(md.Sequence.Stream, 10)
		}
		attrs = append(attrs,
			streamKey.String(md.Stream),
			integer(streamSequenceKey, md.Sequence.Stream),
			integer(consumerSequenceKey, md.Sequence.Consumer),
			integer(deliveryCountKey, md.NumDelivered),
		)
	}
	if id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(id))
	}
	if t.bodySize {
		attrs = append(attrs, semconv.MessagingMessageBodySize(bodySize(msg)))
	}
	if len(attrs) > 0 {
		span.SetAttributes(attrs...)
	}
}

// bodySize returns the size of a message's body, also of one that a consumer of
// headers alone was delivered.
func bodySize(msg jetstream.Msg) int {
	if stated := first(msg.Headers(), msgSize); stated != "" {
		if n, err := strconv.Atoi(stated); err == nil && len(msg.Data()) == 0 {
			return n
		}
	}
	return len(msg.Data())
}

func integer(key attribute.Key, n uint64) attribute.KeyValue {
	return key.Int64(int64(n)) // #nosec G115 -- sequences stay far below 2^63
}
