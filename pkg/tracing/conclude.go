package tracing

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Classes of work that did not return.
const (
	classPanic  = "panic"
	classGoexit = "goexit"
)

// ending is work that is spanned, counted and waited for.
type ending interface {
	// end is called once, with the class of the error, "" for none.
	end(class string)
}

// conclude ends work by how it came to its end. It is to be deferred itself, not
// called by a deferred function, else recover finds nothing. returned is set by
// the work's last statement: without it neither a panic nor runtime.Goexit could
// be told from success.
func conclude(w ending, span trace.Span, returned *bool, err *error) {
	if *returned {
		w.end(errorType(*err))
		return
	}
	unreturned(w, span, recover())
}

// unreturned ends work after a panic with cause, which it raises again, or, if
// cause is nil, after runtime.Goexit.
func unreturned(w ending, span trace.Span, cause any) {
	if cause == nil {
		w.end(classGoexit)
		return
	}
	if span.IsRecording() {
		span.AddEvent(semconv.ExceptionEventName, trace.WithAttributes(describePanic(cause)...))
	}
	w.end(classPanic)
	panic(cause)
}

// describePanic tells where and with what kind of value a panic came. Only the
// runtime's own messages are sure to hold no data.
func describePanic(cause any) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		semconv.ExceptionType(fmt.Sprintf("%T", cause)),
		semconv.ExceptionStacktrace(string(debug.Stack())),
	}
	if err, ok := cause.(runtime.Error); ok {
		attrs = append(attrs, semconv.ExceptionMessage(err.Error()))
	}
	return attrs
}

// endSpan ends span, as failed unless class is "". The status says the same as
// error.type, because an error's text may hold what must not be exported.
func endSpan(span trace.Span, class string) {
	if class != "" && span.IsRecording() {
		span.SetAttributes(semconv.ErrorTypeKey.String(class))
		span.SetStatus(codes.Error, class)
	}
	span.End()
}
