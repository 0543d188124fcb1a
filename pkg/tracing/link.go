package tracing

import (
	"context"
	"encoding/hex"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Link returns a link to the span that produced a stored message, from the
// message's headers: for fan-in, where a span concludes what other messages
// have begun. If the headers hold no valid context it returns the zero Link,
// which the SDK ignores.
//
// The link has link.trace_id, by which a backend finds all links to a trace;
// link.event_type from ce-type; messaging.message.id from ce-id, else from
// Nats-Msg-Id; and attrs, which should hold a [RelationshipKey]. [LinkAware]
// trusts it.
func (t *Tracer) Link(header nats.Header, attrs ...attribute.KeyValue) trace.Link {
	sc := trace.SpanContextFromContext(t.propagation().Extract(context.Background(), HeaderCarrier(header)))
	if !sc.IsValid() {
		return trace.Link{}
	}
	return newLink(sc, header, messageID(header), attrs, nil)
}

// newLink returns a link to sc with what header tells of its message, and more.
func newLink(sc trace.SpanContext, header nats.Header, id string, more, last []attribute.KeyValue) trace.Link {
	kind := first(header, ceType)
	n := 1 + len(more) + len(last)
	if kind != "" {
		n++
	}
	if id != "" {
		n++
	}
	attrs := make([]attribute.KeyValue, 0, n)
	attrs = append(attrs, linkTraceIDKey.String(traceIDText(sc.TraceID(), header)))
	if kind != "" {
		attrs = append(attrs, linkEventTypeKey.String(kind))
	}
	if id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(id))
	}
	return trace.Link{SpanContext: sc, Attributes: append(append(attrs, more...), last...)}
}

// traceIDText returns id in hex: as a part of the header where it is written, in
// most cases, so that nothing has to be made.
func traceIDText(id trace.TraceID, header nats.Header) string {
	const start, end = len("00-"), len("00-") + 2*len(id)
	if written := first(header, traceparent); len(written) >= end {
		var digits [2 * len(id)]byte
		hex.Encode(digits[:], id[:])
		if text := written[start:end]; text == string(digits[:]) {
			return text
		}
	}
	return id.String()
}
