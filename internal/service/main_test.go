package service

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A collector that is away is told of once a minute, and how often it was not told.
func TestTelemetryErrors(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(0, 0)
	told := &telemetryErrors{log: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }}
	for range 5 {
		told.Handle(errors.New("connection refused"))
		now = now.Add(15 * time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "not_told=0") || !strings.Contains(lines[1], "not_told=3") {
		t.Errorf("5 errors in a minute: %q", lines)
	}
	if !strings.Contains(lines[0], "OTEL_EXPORTER_OTLP_ENDPOINT") || !strings.Contains(lines[0], `error="connection refused"`) {
		t.Errorf("the line says nothing of what and why: %q", lines[0])
	}
}
