// Package app lists the six services, and runs all of them in one process.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/trail"
)

// Services returns the definitions of the six services. traces and mails are those
// of this process, for orders' pages and for notify; nil if it has none.
func Services(traces trail.Source, mails *outbox.Outbox) []service.Definition {
	return []service.Definition{
		storefront.Service(traces, mails),
		payments.Service,
		inventory.Service,
		fulfillment.Service,
		notify.Service(mails),
		analytics.Service,
	}
}

// Durables returns the durable consumers of the services, which provisioning makes.
func Durables() (all []stream.Durable) {
	for _, def := range Services(nil, nil) {
		all = append(all, def.Durables...)
	}
	return all
}

// Config is the configuration of a System. Only Connect is required.
type Config struct {
	Connect  func(...nats.Option) (*nats.Conn, error) // each service has a connection of its own
	Settings service.Settings
	HTTPAddr string       // of the shop; default 127.0.0.1:0
	Log      slog.Handler // default: none
	Tracing  []telemetry.Option
}

// System is the six services in one process.
type System struct {
	URL    string         // of the shop
	Client *stream.Client // an administrator's access to the streams, untraced

	conn      *nats.Conn
	stopHTTP  func() error
	instances []*service.Replica
}

// Start provisions the streams, starts the services and serves the shop, with
// analytics beside it. End it with Stop.
func Start(ctx context.Context, cfg Config) (*System, error) {
	s := &System{}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *System) start(ctx context.Context, cfg Config) error {
	log := slog.New(cmp.Or[slog.Handler](cfg.Log, slog.DiscardHandler))
	// Listen first: a port that is in use must fail at once.
	listener, err := net.Listen("tcp", cmp.Or(cfg.HTTPAddr, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("listen for the shop at HTTP_ADDR: %w", err)
	}
	s.URL, s.stopHTTP = respond.URL(listener.Addr()), listener.Close
	if s.conn, err = cfg.Connect(nats.Name("ordertrail administrator"), nats.MaxReconnects(-1)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if s.Client, err = stream.New(s.conn, Untraced(), log); err != nil {
		return err
	}
	if err = stream.Provision(ctx, s.Client.JetStream(), stream.Topology{
		Durables: Durables(),
		Report: func(change string) {
			log.WarnContext(ctx, "corrected a setting of an existing stream", "change", change)
		},
	}); err != nil {
		return err
	}
	spans, mails := trail.NewStore(0), new(outbox.Outbox)
	byName := map[string]*service.Replica{}
	for _, def := range Services(spans, mails) {
		r, err := service.Start(ctx, def, service.Config{
			Connect: cfg.Connect, Settings: InOneProcess(cfg.Settings), Log: log.Handler(),
			Tracing: append([]telemetry.Option{telemetry.WithSpanProcessor(spans)}, cfg.Tracing...),
		})
		if err != nil {
			return err
		}
		s.instances = append(s.instances, r)
		byName[def.Name] = r
	}
	s.stopHTTP = Serve(ctx, listener, Handler(byName[orders.Name], byName[analytics.Name]))
	return nil
}

// Untraced returns a tracer that makes no spans.
func Untraced() *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()))
}

// InOneProcess returns the settings of services that share one process: it keeps their
// traces, and links between pages need no more than a path.
func InOneProcess(s service.Settings) service.Settings {
	s.ShopURL = cmp.Or(s.ShopURL, &url.URL{Path: "/"})
	s.AnalyticsURL = cmp.Or(s.AnalyticsURL, &url.URL{Path: "/analytics"})
	s.KeepsTraces = true
	return s
}

// Handler serves the shop, and analytics under the same address.
func Handler(orders, analytics *service.Replica) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", service.KnownHosts(orders.Settings, orders.HTTP))
	mux.Handle("GET /analytics", service.KnownHosts(orders.Settings, analytics.HTTP))
	orders.Health(mux)
	return mux
}

// Serve serves h until stop is called, which waits for the requests under way. Further
// calls of stop have no effect.
func Serve(ctx context.Context, l net.Listener, h http.Handler) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- service.Serve(ctx, l, h) }()
	return sync.OnceValue(func() error { cancel(); return <-done })
}

// Stop ends the HTTP server, then the services, all at once: each finishes the
// messages that it handles.
func (s *System) Stop(ctx context.Context) error {
	errs := make([]error, len(s.instances)+1)
	if s.stopHTTP != nil {
		errs[len(s.instances)] = s.stopHTTP()
	}
	var stopping sync.WaitGroup
	for i, r := range s.instances {
		stopping.Go(func() { errs[i] = r.Stop(ctx) })
	}
	stopping.Wait()
	if s.conn != nil {
		s.conn.Close()
	}
	return errors.Join(errs...)
}

// stopTimeout bounds an orderly end.
const stopTimeout = 15 * time.Second

// StopTimeout returns a context that bounds an orderly end, also after ctx has ended.
func StopTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
}
