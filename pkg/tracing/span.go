package tracing

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Values of messaging.operation.name.
const (
	opPublish = "publish"
	opRequest = "request"
	opReceive = "receive"
	opProcess = "process"
	opAck     = "ack"
	opNak     = "nak"
	opTerm    = "term"
)

// The kinds of spans, as options that need no memory of their own.
var (
	producer = trace.WithSpanKind(trace.SpanKindProducer)
	consumer = trace.WithSpanKind(trace.SpanKindConsumer)
	client   = trace.WithSpanKind(trace.SpanKindClient)
	server   = trace.WithSpanKind(trace.SpanKindServer)
)

// operation is a span in progress, with its metrics.
type operation struct {
	tracer   *Tracer
	name     string
	subject  string // "" for messages of several subjects
	template string // "" for messages of several templates
	bounded  string // the destination, for span names, if there is no template
	group    string

	ctx   context.Context
	span  trace.Span
	start time.Time // zero if no metrics are recorded
}

// class returns messaging.operation.type.
func (o *operation) class() string {
	switch o.name {
	case opPublish, opRequest:
		return "send"
	case opReceive, opProcess:
		return o.name
	default:
		return "settle"
	}
}

// begin notes the time, if metrics need it.
func (o *operation) begin(ctx context.Context) {
	if o.start.IsZero() && o.tracer.metrics.enabled(ctx) {
		o.start = time.Now()
	}
}

// startSpan starts the span in ctx.
func (o *operation) startSpan(ctx context.Context, kind trace.SpanStartOption, links []trace.Link, more []attribute.KeyValue, opts ...trace.SpanStartOption) {
	o.begin(ctx)
	size := 7 + len(more)
	if o.group != "" {
		size++
	}
	attrs := make([]attribute.KeyValue, 0, size)
	attrs = append(attrs,
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(o.name),
		semconv.MessagingOperationTypeKey.String(o.class()))
	if o.template != "" {
		attrs = append(attrs, semconv.MessagingDestinationTemplate(o.template))
	}
	if o.subject != "" {
		attrs = append(attrs, semconv.MessagingDestinationName(o.subject))
		if o.tracer.isInbox(o.subject) {
			attrs = append(attrs, semconv.MessagingDestinationTemporary(true), semconv.MessagingDestinationAnonymous(true))
		}
	}
	if o.group != "" {
		attrs = append(attrs, semconv.MessagingConsumerGroupName(o.group))
	}
	attrs = append(attrs, o.tracer.serverAddress()...)
	attrs = append(attrs, more...)
	name := o.name
	if destination := cmp.Or(o.template, o.bounded); destination != "" {
		name += " " + destination
	}
	all := append(make([]trace.SpanStartOption, 0, 3), kind, trace.WithAttributes(attrs...))
	if len(links) > 0 {
		all = append(all, trace.WithLinks(links...))
	}
	o.ctx, o.span = o.tracer.tracer.Start(ctx, name, append(all, opts...)...)
}

// templateOf returns the template of subject, or "".
func (t *Tracer) templateOf(subject string) string {
	if t.template == nil {
		return ""
	}
	if template := t.template(subject); !t.isInbox(template) && !strings.HasPrefix(template, "$JS.") {
		return template
	}
	return ""
}

// filtered reports whether a message is not to be instrumented.
func (t *Tracer) filtered(subject string, h nats.Header) bool {
	return t.filter != nil && !t.filter(subject, h)
}

// attributesOf returns the caller's attributes for the span of a message.
func (t *Tracer) attributesOf(subject string, h nats.Header) []attribute.KeyValue {
	if t.spanAttributes == nil {
		return nil
	}
	return t.spanAttributes(subject, h)
}

// finish ends the span and records the duration. The operation failed unless
// class is "". The status repeats error.type, because the text of an error may
// hold data that must not be exported.
func (o *operation) finish(class string) {
	o.took(class)
	if class != "" && o.span.IsRecording() {
		o.span.SetAttributes(semconv.ErrorTypeKey.String(class))
		o.span.SetStatus(codes.Error, class)
	}
	o.span.End()
}

// do calls f, which is the caller's code, and then end with its class of errors. A
// panic and runtime.Goexit end the operation too, and go on.
func (o *operation) do(f func() error, end func(class string)) (err error) {
	returned := false
	defer func() {
		if returned {
			end(errorType(err))
			return
		}
		cause := recover()
		if cause == nil {
			end("goexit")
			return
		}
		if o.span.IsRecording() {
			o.span.AddEvent(semconv.ExceptionEventName, trace.WithAttributes(describePanic(cause)...))
		}
		end("panic")
		panic(cause)
	}()
	err = f()
	returned = true
	return err
}

// describePanic leaves out the value of the panic, which may hold data, unless it is
// an error of the runtime.
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
