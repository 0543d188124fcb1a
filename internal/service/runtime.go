// Package service is the runtime that the six services share: settings, the
// connection to NATS, tracing, logs, health checks and an orderly end.
package service

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
)

// Runtime holds the connection, the streams, the tracing and the log of one replica.
type Runtime struct {
	Name     string // of the service
	Instance string // a unique name of this replica
	Settings Settings
	Log      *slog.Logger
	Stream   *stream.Client
	Tracing  *tracing.Tracer      // for messages
	Tracer   trace.Tracer         // for the service's own spans
	Provider trace.TracerProvider // for instrumentation libraries

	conn      *nats.Conn
	providers *telemetry.Providers
	ready     readiness
}

// Part is a service, wired and ready to run.
type Part struct {
	// Run works until its context ends, then finishes the messages that it handles.
	Run func(ctx context.Context) error
	// HTTP is the service's API; nil if it has none.
	HTTP http.Handler
}

// Wire makes a Part of a Runtime: each service has one such function.
type Wire func(*Runtime) (Part, error)

// Definition holds the facts about a service that its binary, the demo and the
// provisioning need. Each service's package states its own.
type Definition struct {
	Name     string           // also its service.name and its NATS user
	Durables []stream.Durable // the durable consumers that its replicas share, one of a stream at most
	HTTPAddr string           // default address of its HTTP API; "" if it has none
	Wire     Wire
	// Waiting makes the handler for requests before the service has a connection to NATS.
	// Default: problem details.
	Waiting func(Settings) http.Handler
}

// Config is the configuration of a Runtime.
type Config struct {
	Name     string
	User     string // names the inbox for replies, _INBOX.<user>; default: Name
	Settings Settings
	Connect  func(...nats.Option) (*nats.Conn, error) // default: to Settings.NATSURL
	Log      slog.Handler                             // default: text on standard error
	Tracing  []telemetry.Option
	Stream   []stream.Option
}

// NewRuntime connects to NATS. It waits for a server that is away until ctx ends, but
// fails at once if the server refuses the credentials.
func NewRuntime(ctx context.Context, cfg Config) (*Runtime, error) {
	rt := &Runtime{Name: cfg.Name, Instance: cfg.Name + "-" + uuid.NewString()[:8], Settings: cfg.Settings}
	if cfg.Log == nil {
		cfg.Log = slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.Settings.LogLevel})
	}
	rt.Log = slog.New(telemetry.LogHandler(cfg.Log)).With("service", cfg.Name)

	var err error
	rt.providers, err = telemetry.Start(ctx, cfg.Name, append([]telemetry.Option{
		telemetry.WithBaggageKeys(string(event.OrderIDKey)),
	}, cfg.Tracing...)...)
	if err != nil {
		return nil, err
	}
	rt.Provider = rt.providers.TracerProvider
	rt.Tracer = rt.Provider.Tracer("example.org/ordertrail/services/" + cfg.Name)

	if rt.conn, err = connect(ctx, cfg, rt.Log); err != nil {
		return nil, errors.Join(err, rt.providers.Shutdown(ctx))
	}
	opts := []tracing.Option{
		tracing.WithTracerProvider(rt.Provider),
		tracing.WithMeterProvider(rt.providers.MeterProvider),
		tracing.WithPropagators(rt.providers.Propagator),
		tracing.WithDestinationTemplate(event.Template),
		tracing.WithConnection(rt.conn),
	}
	if cfg.Settings.ParentTraces {
		opts = append(opts, tracing.WithTopologyParent())
	}
	rt.Tracing = tracing.New(opts...)
	if rt.Stream, err = stream.New(rt.conn, rt.Tracing, rt.Log, cfg.Stream...); err != nil {
		rt.conn.Close()
		return nil, errors.Join(err, rt.providers.Shutdown(ctx))
	}
	return rt, nil
}

// Close sends the last acknowledgements, closes the connection and exports the spans
// and metrics that are left. Call it after Part.Run has returned.
func (rt *Runtime) Close(ctx context.Context) error {
	flush, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	err := rt.conn.FlushWithContext(flush) // waits while NATS is away
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = nil
	}
	rt.conn.Close()
	if lost := errors.Join(rt.Tracing.Shutdown(ctx), rt.providers.Shutdown(ctx)); lost != nil {
		// A collector that is away is not an error of the service.
		rt.Log.Warn("last spans are lost: exporting them failed", "error", lost)
	}
	return err
}

// flushTimeout bounds the flush of the connection, so that time is left for the last
// spans while NATS is away.
const flushTimeout = 500 * time.Millisecond

// drainTimeout bounds the orderly end of a service.
const drainTimeout = 7 * time.Second
