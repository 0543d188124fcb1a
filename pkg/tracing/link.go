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
	own := r.appendLink(make([]attribute.KeyValue, 0, linkSize+len(attrs)), &sc)
	return trace.Link{SpanContext: sc, Attributes: append(own, attrs...)}
}

// linkSize is how many attributes a link has, with one of the caller's.
const linkSize = 6

// appendLink appends what the header of a message tells of it on a link to sc,
// the context that the message was created in.
func (r *reading) appendLink(attrs []attribute.KeyValue, sc *trace.SpanContext) []attribute.KeyValue {
	attrs = append(attrs, linkTraceIDKey.String(r.traceID(sc)))
	if r.eventType != "" {
		attrs = append(attrs, linkEventTypeKey.String(r.eventType))
	}
	if r.id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(r.id))
	}
	return attrs
}
