package service

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Failed exports are logged once a minute, with the number of those that were not logged.
func TestTelemetryErrors(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(0, 0)
	errs := newTelemetryErrors(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	for range 5 {
		errs.Handle(errors.New("connection refused"))
		now = now.Add(15 * time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "suppressed=0") || !strings.Contains(lines[1], "suppressed=3") {
		t.Errorf("5 errors in a minute: %q", lines)
	}
	if !strings.Contains(lines[0], "OTEL_EXPORTER_OTLP_ENDPOINT") || !strings.Contains(lines[0], `error="connection refused"`) {
		t.Errorf("the line lacks the variable or the error: %q", lines[0])
	}
}
