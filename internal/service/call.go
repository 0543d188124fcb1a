package service

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
)

// Undo is Call for a compensation, which an attribute of its span shows.
func (rt *Runtime) Undo(ctx context.Context, name string, call func(context.Context) error) error {
	return rt.Call(ctx, name, func(ctx context.Context) error {
		trace.SpanFromContext(ctx).SetAttributes(event.CompensationKey.Bool(true))
		return call(ctx)
	})
}

// Call makes a call to an outside system (a gateway, a carrier, a mail server) in a
// CLIENT span of its own. An error that is one of refusals is a valid answer of that
// system, and becomes the attribute call.refused; other errors fail the span. The
// span does not hold an error's text, which may contain personal data.
func (rt *Runtime) Call(ctx context.Context, name string, call func(context.Context) error, refusals ...error) error {
	ctx, span := rt.Tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	err := call(ctx)
	if err == nil {
		return nil
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			span.SetAttributes(attribute.String("call.refused", refusal.Error()))
			return err
		}
	}
	errorType := "call_failed"
	if errors.Is(err, context.DeadlineExceeded) {
		errorType = "timeout"
	}
	span.SetStatus(codes.Error, name+" failed")
	span.SetAttributes(attribute.String("error.type", errorType))
	return err
}
