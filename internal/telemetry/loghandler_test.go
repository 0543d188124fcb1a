package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/telemetry"
)

func TestLogHandler(t *testing.T) {
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2},
	}))
	const ids = " trace_id=00000000000000000000000000000001 span_id=0000000000000002"
	for _, tt := range []struct {
		name string
		ctx  context.Context
		with func(*slog.Logger) *slog.Logger
		want string
	}{
		{"Plain", ctx, func(l *slog.Logger) *slog.Logger { return l }, "msg=hi n=1" + ids},
		{"NoSpan", context.Background(), func(l *slog.Logger) *slog.Logger { return l }, "msg=hi n=1"},
		{"Attrs", ctx, func(l *slog.Logger) *slog.Logger { return l.With("a", 1) }, "msg=hi a=1 n=1" + ids},
		{"Group", ctx, func(l *slog.Logger) *slog.Logger { return l.WithGroup("g") }, "msg=hi g.n=1" + strings.ReplaceAll(ids, " ", " g.")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			next := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
					return slog.Attr{}
				}
				return a
			}})
			logger := tt.with(slog.New(telemetry.LogHandler(next)))
			logger.InfoContext(tt.ctx, "hi", "n", 1)
			logger.DebugContext(tt.ctx, "below the level")
			if got := strings.TrimSpace(out.String()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
