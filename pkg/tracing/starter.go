package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// starter is what a span starts with, in memory that later spans of the same
// shape use again. That is safe because nobody can read a start option but
// [trace.NewSpanStartConfig], which copies what is in it; but for the attributes
// of the link, which are never used again.
type starter struct {
	shape      *shape
	attributes []attribute.KeyValue // those of the shape, the last is the subject
	link       [1]trace.Link
	concrete   trace.SpanStartOption    // of the attributes
	options    [3]trace.SpanStartOption // kind, attributes, link
}

// starter returns one for a span. Its link may be set.
func (s *shape) starter() *starter {
	if st, ok := s.starters.Get().(*starter); ok {
		return st
	}
	st := &starter{shape: s, attributes: make([]attribute.KeyValue, len(s.attributes)+1)}
	copy(st.attributes, s.attributes)
	st.attributes[len(s.attributes)] = semconv.MessagingDestinationName("")
	st.concrete = trace.WithAttributes(st.attributes...)
	st.options = [...]trace.SpanStartOption{s.kind, s.option, trace.WithLinks(st.link[:]...)}
	return st
}

// start starts the span, with the attributes of the shape, the concrete subject
// unless it is "", and the link if it is valid; what more there is comes last.
// The starter must not be used again.
func (st *starter) start(ctx context.Context, tracer trace.Tracer, subject string, more ...trace.SpanStartOption) (context.Context, trace.Span) {
	s := st.shape
	st.options[1] = s.option
	if subject != s.subject && subject != "" {
		st.attributes[len(s.attributes)].Value = attribute.StringValue(subject)
		st.options[1] = st.concrete
	}
	n := 2
	if st.link[0].SpanContext.IsValid() {
		n = 3
	}
	// Whoever appends to the options must not write into them.
	options := st.options[:n:n]
	if len(more) > 0 {
		options = append(options, more...)
	}
	ctx, span := tracer.Start(ctx, s.name, options...)
	st.link[0] = trace.Link{}
	s.starters.Put(st)
	return ctx, span
}
