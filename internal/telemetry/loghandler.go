package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// LogHandler returns a handler that adds trace_id and span_id of the context's
// span to each record and passes it to next. They stand at the top level, where
// log viewers look for them, also for a logger with open groups. Records that
// are logged without a context, or with one that has no span, go through as they
// are.
func LogHandler(next slog.Handler) slog.Handler {
	return &logHandler{next: next, top: next}
}

type logHandler struct {
	next slog.Handler // with all groups and attributes
	top  slog.Handler // as it was before the first group was opened
	// inner is what was done since: it has to be repeated to put an attribute
	// in front of it.
	inner []func(slog.Handler) slog.Handler
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return h.next.Handle(ctx, r)
	}
	ids := []slog.Attr{
		slog.String("trace_id", sc.TraceID().String()),
		slog.String("span_id", sc.SpanID().String()),
	}
	if len(h.inner) == 0 {
		r = r.Clone()
		r.AddAttrs(ids...)
		return h.next.Handle(ctx, r)
	}
	next := h.top.WithAttrs(ids)
	for _, step := range h.inner {
		next = step(next)
	}
	return next.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.with(len(h.inner) > 0, func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
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
	return &logHandler{next: next, top: h.top, inner: append(h.inner[:len(h.inner):len(h.inner)], step)}
}
