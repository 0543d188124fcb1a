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

// conclude ends span by how its work came to an end. It is to be deferred
// itself, not called by a deferred function, else recover finds nothing.
// returned is set by the work's last statement: without it neither a panic nor
// runtime.Goexit could be told from success.
func conclude(span trace.Span, returned *bool, err *error) {
	if *returned {
		if *err != nil {
			fail(span, *err)
		}
		span.End()
		return
	}
	concludeUnreturned(span, recover())
}

// concludeUnreturned ends span after a panic with cause, which it raises again,
// or, if cause is nil, after runtime.Goexit.
func concludeUnreturned(span trace.Span, cause any) {
	if cause == nil {
		failAs(span, "goexit")
		span.End()
		return
	}
	if span.IsRecording() {
		span.AddEvent(semconv.ExceptionEventName, trace.WithAttributes(describePanic(cause)...))
	}
	failAs(span, "panic")
	span.End()
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

func fail(span trace.Span, err error) {
	if span.IsRecording() {
		failAs(span, errorType(err))
	}
}

// failAs marks span as failed. The status says the same as error.type, because
// an error's text may hold what must not be exported.
func failAs(span trace.Span, class string) {
	if span.IsRecording() {
		span.SetAttributes(semconv.ErrorTypeKey.String(class))
		span.SetStatus(codes.Error, class)
	}
}
