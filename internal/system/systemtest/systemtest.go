// Package systemtest runs the whole system for a test: an embedded server with a
// file store, all six services, and a recorder of every span they end.
package systemtest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"ordertrail/internal/demo"
	"ordertrail/internal/embedded"
	"ordertrail/internal/system"
	"ordertrail/pkg/tracing/setup"
)

// Patience is how long a test waits for what should happen soon.
const Patience = 20 * time.Second

// System is a running system with what a test needs of it.
type System struct {
	*system.System
	Shop  demo.Shop
	Spans Spans
}

// Spans records every span that ends, and keeps it when the system is stopped.
type Spans struct{ *tracetest.SpanRecorder }

// GetSpans returns the spans that have ended, as they were then.
func (s Spans) GetSpans() tracetest.SpanStubs {
	return tracetest.SpanStubsFromReadOnlySpans(s.Ended())
}

// Start runs the system until the test ends; change adjusts its configuration.
func Start(t testing.TB, change ...func(*system.Config)) *System {
	t.Helper()
	return StartOn(t, Server(t).Connect, change...)
}

// StartOn runs the system on a server of the test's own.
func StartOn(t testing.TB, connect func(...nats.Option) (*nats.Conn, error), change ...func(*system.Config)) *System {
	t.Helper()
	spans := Spans{tracetest.NewSpanRecorder()}
	cfg := system.Config{
		Connect: connect,
		Tracing: func(string) []setup.Option {
			return []setup.Option{setup.WithSpanProcessor(spans)}
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	sys, err := system.Start(ctx, cfg)
	if err != nil {
		t.Fatalf("start the system: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := system.StopTimeout(context.Background())
		defer cancel()
		if err := sys.Stop(ctx); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	return &System{System: sys, Shop: demo.Shop{URL: sys.URL, Client: client}, Spans: spans}
}

// Server runs an embedded server until the test ends.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatalf("start a server: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Until polls until ok, or fails the test when Patience is over.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
	}
}
