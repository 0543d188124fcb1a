package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// ScopeName is the instrumentation scope of every span and metric.
const ScopeName = "example.org/ordertrail/pkg/tracing"

// Version returns the version of this package, which is also the version of
// the instrumentation scope.
func Version() string { return "0.2.0" }

// Tracer instruments one service's traffic with NATS. It is safe for concurrent
// use; a service needs one per connection. Make it with [New].
type Tracer struct {
	config
	tracer   trace.Tracer
	disabled bool // tracer is the no-op tracer
	metrics  instruments
	fields   atomic.Pointer[propagatorFields] // once known
	server   atomic.Pointer[serverOf]
	inFlight inFlight
	// The deliveries, by their reply subjects, that are counted and not settled, and
	// those that are being settled.
	counted, settling sync.Map
}

// New returns a Tracer. Without options it uses OpenTelemetry's global
// providers and propagator, also those that the program sets later; it records
// no server address and knows no destination templates.
func New(opts ...Option) *Tracer {
	t := &Tracer{}
	for _, opt := range opts {
		opt.apply(&t.config)
	}
	if t.propagator == nil {
		t.propagator = otel.GetTextMapPropagator()
	}
	spans, measurements := t.providers()
	t.tracer = spans.Tracer(ScopeName, trace.WithInstrumentationVersion(Version()), trace.WithSchemaURL(semconv.SchemaURL))
	_, t.disabled = t.tracer.(noop.Tracer)
	t.metrics = newInstruments(measurements)
	t.server.Store(&serverOf{reconnects: -1, attributes: serverAttributes(t.address)})
	return t
}

// providers returns the providers: of the options, or else the global ones as they are now.
func (t *Tracer) providers() (trace.TracerProvider, metric.MeterProvider) {
	spans, measurements := t.tracerProvider, t.meterProvider
	if spans == nil {
		spans = otel.GetTracerProvider()
	}
	if measurements == nil {
		measurements = otel.GetMeterProvider()
	}
	return spans, measurements
}

// off reports whether there are neither spans nor metrics.
func (t *Tracer) off(ctx context.Context) bool { return t.disabled && !t.metrics.enabled(ctx) }

// Shutdown waits until every handler has returned and every publish has its
// outcome, then flushes the providers. Call it when no more messages come in,
// and before you shut down the providers.
//
// If ctx ends first, Shutdown returns an error with the number of handlers and
// publishes that have not ended, and flushes nothing: shut down the providers with a
// context of their own. It also returns the errors of the flushes. A
// Tracer still works after Shutdown, and Shutdown may be called again.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if err := t.inFlight.wait(ctx); err != nil {
		return err
	}
	// At the same time, so that one unreachable collector does not use up the
	// time of the other.
	spans, measurements := t.providers()
	metrics := make(chan error, 1)
	go func() { metrics <- flush(ctx, measurements) }()
	return errors.Join(flush(ctx, spans), <-metrics)
}

func flush(ctx context.Context, provider any) error {
	if p, ok := provider.(interface{ ForceFlush(context.Context) error }); ok {
		return p.ForceFlush(ctx)
	}
	return nil
}

// inFlight counts the operations that have begun and not ended.
type inFlight struct{ atomic.Int64 }

// wait returns when there are none. Like [net/http.Server.Shutdown] it polls, so that
// an operation costs no more than two additions.
func (f *inFlight) wait(ctx context.Context) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		n := f.Load()
		if n == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("tracing: shutdown: %d handlers and publishes have not ended: %w", n, context.Cause(ctx))
		}
	}
}

// serverOf is the server of the connection, after so many reconnects.
type serverOf struct {
	reconnects int64
	attributes []attribute.KeyValue
}

// serverAddress returns server.address and server.port of the current server.
func (t *Tracer) serverAddress() []attribute.KeyValue {
	s := t.server.Load()
	if t.conn == nil {
		return s.attributes
	}
	if n := int64(t.conn.Stats().Reconnects); n != s.reconnects && t.conn.IsConnected() {
		s = &serverOf{reconnects: n}
		if t.conn.ConnectedAddr() != "pipe" { // a pipe leads to a server in this process
			s.attributes = serverAttributes(t.conn.ConnectedUrl())
		}
		t.server.Store(s)
	}
	return s.attributes
}

// serverAttributes reads a host, host:port or URL, which may hold credentials.
func serverAttributes(address string) []attribute.KeyValue {
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	attrs := []attribute.KeyValue{semconv.ServerAddress(u.Hostname())}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		attrs = append(attrs, semconv.ServerPort(port))
	}
	return attrs
}

// isInbox reports whether subject is a temporary one that a client made for replies.
func (t *Tracer) isInbox(subject string) bool {
	return strings.HasPrefix(subject, nats.InboxPrefix) ||
		t.conn != nil && t.conn.Opts.InboxPrefix != "" && strings.HasPrefix(subject, t.conn.Opts.InboxPrefix+".")
}
