package telemetry

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// LogHandler returns a handler that adds trace_id and span_id of the context's span to
// each record. They are at the top level, where log viewers search them, also for a
// logger with groups. A handler that does so already is returned as it is.
func LogHandler(next slog.Handler) slog.Handler {
	if h, ok := next.(*logHandler); ok {
		return h
	}
	return &logHandler{next: next, top: next}
}

type logHandler struct {
	next slog.Handler // with all groups and attributes
	top  slog.Handler // next before its first group
	// grouped makes next from top. It is repeated to add attributes before the group.
	grouped []func(slog.Handler) slog.Handler
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return h.next.Handle(ctx, r)
	}
	ids := []slog.Attr{slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String())}
	if len(h.grouped) == 0 {
		r = r.Clone()
		r.AddAttrs(ids...)
		return h.next.Handle(ctx, r)
	}
	next := h.top.WithAttrs(ids)
	for _, step := range h.grouped {
		next = step(next)
	}
	return next.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(len(h.grouped) > 0, func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(true, func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *logHandler) with(grouped bool, step func(slog.Handler) slog.Handler) slog.Handler {
	next := step(h.next)
	if !grouped {
		return &logHandler{next: next, top: next}
	}
	return &logHandler{next: next, top: h.top, grouped: append(slices.Clip(h.grouped), step)}
}
