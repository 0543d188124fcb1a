package tracing

import (
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
	var r reading
	sc := t.propagation().spanContext(header, &r)
	if !sc.IsValid() {
		return trace.Link{}
	}
	return trace.Link{SpanContext: sc, Attributes: append(linkAttributes(sc, &r, len(attrs)), attrs...)}
}

// linkAttributes returns what the header of a message tells of it on a link to
// its creation context sc. There is room for more.
func linkAttributes(sc trace.SpanContext, r *reading, more int) []attribute.KeyValue {
	n := 1 + more
	if r.eventType != "" {
		n++
	}
	if r.id != "" {
		n++
	}
	attrs := make([]attribute.KeyValue, 1, n)
	attrs[0] = linkTraceIDKey.String(r.traceID(sc))
	if r.eventType != "" {
		attrs = append(attrs, linkEventTypeKey.String(r.eventType))
	}
	if r.id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(r.id))
	}
	return attrs
}
