// Package app runs all six services in one process, each on a connection of
// its own: the demo, the tests and the benchmarks are built on it.
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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/outbox"
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
		if def.Durable.Name != "" {
			all = append(all, def.Durable)
		}
	}
	return all
}

// Config is what a System is made of. Only Connect is required.
type Config struct {
	Connect  func(...nats.Option) (*nats.Conn, error)
	Topology stream.Topology // Durables are filled in
	Settings service.Settings
	Replicas map[string]int          // of each service; default 1
	Wire     map[string]service.Wire // in place of a service's own
	HTTPAddr string                  // of the shop's API, with analytics' beside it; default 127.0.0.1:0
	Log      slog.Handler            // default: nowhere
	Tracing  func(service string) []telemetry.Option
	Stream   func(service string) []stream.Option
	Trails   trail.StoreOptions // of the store that keeps the services' spans
}

// System is the running whole.
type System struct {
	URL    string       // of the shop's API
	Trails *trail.Store // the spans of all services

	cfg      Config
	services []service.Definition
	conn     *nats.Conn // an administrator's
	js       jetstream.JetStream
	stop     []func(context.Context) error // in reverse order

	mu       sync.Mutex
	replicas []*Replica
}

// Start provisions and runs everything. Stop it with Stop.
func Start(ctx context.Context, cfg Config) (*System, error) {
	if cfg.Log == nil {
		cfg.Log = slog.DiscardHandler
	}
	if cfg.HTTPAddr == "" {
		cfg.HTTPAddr = "127.0.0.1:0"
	}
	// One process, one address: links between pages need no more than a path.
	cfg.Settings.ShopURL = cmp.Or(cfg.Settings.ShopURL, &url.URL{Path: "/"})
	cfg.Settings.AnalyticsURL = cmp.Or(cfg.Settings.AnalyticsURL, &url.URL{Path: "/analytics"})
	s := &System{cfg: cfg, Trails: trail.NewStore(cfg.Trails)}
	var mails *outbox.Outbox
	if cfg.Settings.SMTPURL == nil {
		mails = new(outbox.Outbox)
	}
	s.services = Services(s.Trails, mails)
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *System) start(ctx context.Context) (err error) {
	// First of all: a port that is taken should cost no time.
	listener, err := net.Listen("tcp", s.cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("listen for the shop's API (HTTP_ADDR says where): %w", err)
	}
	s.stop = append(s.stop, func(context.Context) error { _ = listener.Close(); return nil })
	if s.conn, err = s.cfg.Connect(nats.Name("ordertrail administrator"), nats.MaxReconnects(-1)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.stop = append(s.stop, func(context.Context) error { s.conn.Close(); return nil })
	if s.js, err = jetstream.New(s.conn); err != nil {
		return err
	}
	s.cfg.Topology.Durables = Durables()
	if err := stream.Provision(ctx, s.js, s.cfg.Topology); err != nil {
		return err
	}
	mux := http.NewServeMux()
	for _, svc := range s.services {
		for range max(s.cfg.Replicas[svc.Name], 1) {
			r, err := s.Run(ctx, svc.Name)
			if err != nil {
				return err
			}
			// One process has one shop: the first replica of a service serves.
			switch {
			case r.number > 0:
			case svc.Name == orders.Name:
				mux.Handle("/", r.part.HTTP)
			case svc.Name == analytics.Name:
				mux.Handle("GET /analytics", r.part.HTTP)
			}
			if r.number == 0 && svc.Name == orders.Name {
				r.rt.Health(mux)
			}
		}
	}
	return s.serve(ctx, listener, mux)
}

func (s *System) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- service.Serve(ctx, l, h) }()
	s.stop = append(s.stop, func(context.Context) error { cancel(); return <-done })
	s.URL = "http://" + l.Addr().String()
	return nil
}

// JetStream is an administrator's access to the streams.
func (s *System) JetStream() jetstream.JetStream { return s.js }

// Run adds a replica of a service.
func (s *System) Run(ctx context.Context, name string) (*Replica, error) {
	wire := s.cfg.Wire[name]
	for _, svc := range s.services {
		if svc.Name == name && wire == nil {
			wire = svc.Wire
		}
	}
	cfg := service.Config{Name: name, Settings: s.cfg.Settings, Connect: s.cfg.Connect, Log: s.cfg.Log}
	cfg.Tracing = []telemetry.Option{telemetry.WithSpanProcessor(s.Trails)}
	if s.cfg.Tracing != nil {
		cfg.Tracing = append(cfg.Tracing, s.cfg.Tracing(name)...)
	}
	if s.cfg.Stream != nil {
		cfg.Stream = s.cfg.Stream(name)
	}
	rt, err := service.NewRuntime(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r := &Replica{Name: name, rt: rt, done: make(chan struct{})}
	if r.part, err = wire(rt); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), rt.Close(ctx))
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.err = r.part.Run(running)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.replicas {
		if other.Name == name {
			r.number++
		}
	}
	s.replicas = append(s.replicas, r)
	return r, nil
}

// Replica returns the number-th replica of a service, from 0.
func (s *System) Replica(name string, number int) *Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replicas {
		if r.Name == name && r.number == number {
			return r
		}
	}
	return nil
}

// Latest returns the replica of a service that was started last.
func (s *System) Latest(name string) *Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.replicas) {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Stop ends everything in an orderly way: no new requests, then every service
// finishes what it has in hand.
func (s *System) Stop(ctx context.Context) error {
	var errs []error
	if len(s.stop) > 0 && s.URL != "" { // the API first
		last := len(s.stop) - 1
		errs = append(errs, s.stop[last](ctx))
		s.stop = s.stop[:last]
	}
	s.mu.Lock()
	replicas := s.replicas
	s.mu.Unlock()
	var wg sync.WaitGroup
	failed := make([]error, len(replicas))
	for i, r := range replicas {
		wg.Go(func() { failed[i] = r.Stop(ctx) })
	}
	wg.Wait()
	errs = append(errs, failed...)
	for i := len(s.stop) - 1; i >= 0; i-- {
		errs = append(errs, s.stop[i](ctx))
	}
	s.stop = nil
	return errors.Join(errs...)
}

// Replica is one running instance of a service.
type Replica struct {
	Name   string
	number int
	rt     *service.Runtime
	part   service.Part
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	killed atomic.Bool
	once   sync.Once
}

// HTTP is the replica's API, nil if it has none.
func (r *Replica) HTTP() http.Handler { return r.part.HTTP }

// Stop ends the replica as SIGTERM would: what it has in hand is finished.
func (r *Replica) Stop(ctx context.Context) (err error) {
	r.once.Do(func() {
		r.cancel()
		select {
		case <-r.done:
			err = r.err
		case <-ctx.Done():
			err = fmt.Errorf("stop %s: %w", r.Name, ctx.Err())
		}
		if r.killed.Load() {
			err = nil
		}
		err = errors.Join(err, r.rt.Close(ctx))
	})
	return err
}

// Kill ends the replica as a crash would, as far as the others can see: nothing
// more is published or acknowledged. It returns at once and may be called from
// the replica's own code.
func (r *Replica) Kill() {
	r.killed.Store(true)
	r.rt.Kill()
	r.cancel()
}

// stopTimeout is what tests and the demo give Stop.
const stopTimeout = 15 * time.Second

// StopTimeout bounds an orderly end.
func StopTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
}

// Client is an administrator's access to the streams, untraced.
func (s *System) Client() (*stream.Client, error) {
	untraced := tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()))
	return stream.New(s.conn, untraced, slog.New(s.cfg.Log))
}
