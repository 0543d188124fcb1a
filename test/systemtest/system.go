package systemtest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/trail"
)

// Config is the configuration of a system of replicas. Only Connect is required.
type Config struct {
	Connect  func(...nats.Option) (*nats.Conn, error)
	Topology stream.Topology // without its Durables
	Settings service.Settings
	Replicas map[string]int          // of each service; default 1
	Wire     map[string]service.Wire // in place of a service's own
	Log      slog.Handler            // default: none
	Tracing  func(service string) []telemetry.Option
	Stream   func(service string) []stream.Option
	NoTrail  bool // keep no spans in Trails
}

// Replicas is a running system whose replicas a test starts, stops and kills. It is
// made of the parts that [app.System] is made of.
type Replicas struct {
	URL    string       // of the shop
	Trails *trail.Store // the spans of all services; none with Config.NoTrail

	cfg      Config
	services []service.Definition
	conn     *nats.Conn // an administrator's
	js       jetstream.JetStream
	stopHTTP func() error

	mu  sync.Mutex
	all []*Replica // in the order of their start
}

// Run starts a system. End it with Stop.
func Run(ctx context.Context, cfg Config) (_ *Replicas, err error) {
	cfg.Log = cmp.Or[slog.Handler](cfg.Log, slog.DiscardHandler)
	s := &Replicas{cfg: cfg, Trails: trail.NewStore(0), stopHTTP: func() error { return nil }}
	s.services = app.Services(s.Trails, new(outbox.Outbox))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if s.conn, err = cfg.Connect(nats.Name("ordertrail administrator"), nats.MaxReconnects(-1)); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return nil, err
	}
	s.cfg.Topology.Durables = app.Durables()
	if err = stream.Provision(ctx, s.js, s.cfg.Topology); err != nil {
		return nil, err
	}
	for _, def := range s.services {
		for range max(cfg.Replicas[def.Name], 1) {
			if _, err = s.Run(ctx, def.Name); err != nil {
				return nil, err
			}
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.URL = "http://" + listener.Addr().String()
	s.stopHTTP = app.Serve(ctx, listener, app.Handler(s.Replica(orders.Name, 0).Replica, s.Replica(analytics.Name, 0).Replica))
	return s, nil
}

// JetStream returns an administrator's access to the streams.
func (s *Replicas) JetStream() jetstream.JetStream { return s.js }

// Client returns an administrator's access to the streams, untraced.
func (s *Replicas) Client() (*stream.Client, error) {
	untraced := tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()))
	return stream.New(s.conn, untraced, slog.New(s.cfg.Log))
}

// Run starts one more replica of a service.
func (s *Replicas) Run(ctx context.Context, name string) (*Replica, error) {
	def := s.services[slices.IndexFunc(s.services, func(d service.Definition) bool { return d.Name == name })]
	if wire := s.cfg.Wire[name]; wire != nil {
		def.Wire = wire
	}
	dying, die := context.WithCancel(context.Background())
	def.Wire = mortal(def.Wire, dying)
	cfg := service.Config{
		Settings: app.InOneProcess(s.cfg.Settings), Connect: s.cfg.Connect, Log: s.cfg.Log,
	}
	if !s.cfg.NoTrail {
		cfg.Tracing = []telemetry.Option{telemetry.WithSpanProcessor(s.Trails)}
	}
	if s.cfg.Tracing != nil {
		cfg.Tracing = append(cfg.Tracing, s.cfg.Tracing(name)...)
	}
	if s.cfg.Stream != nil {
		cfg.Stream = s.cfg.Stream(name)
	}
	started, err := service.Start(ctx, def, cfg)
	if err != nil {
		die()
		return nil, err
	}
	r := &Replica{Replica: started, die: die}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, r)
	return r, nil
}

// mortal wires a service that also ends when dying does.
func mortal(wire service.Wire, dying context.Context) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		part, err := wire(rt)
		run := part.Run
		part.Run = func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(dying, cancel)()
			return run(ctx)
		}
		return part, err
	}
}

// of returns the replicas of a service in the order of their start.
func (s *Replicas) of(name string) (found []*Replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.Name == name {
			found = append(found, r)
		}
	}
	return found
}

// Replica returns the number-th replica of a service, from 0.
func (s *Replicas) Replica(name string, number int) *Replica { return s.of(name)[number] }

// Latest returns the replica of a service that was started last.
func (s *Replicas) Latest(name string) *Replica {
	all := s.of(name)
	return all[len(all)-1]
}

// Stop ends the HTTP server, then all replicas, as [app.System.Stop] does.
func (s *Replicas) Stop(ctx context.Context) error {
	err := s.stopHTTP()
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(s.all))
	var stopping sync.WaitGroup
	for i, r := range s.all {
		stopping.Go(func() { errs[i] = r.Stop(ctx) })
	}
	stopping.Wait()
	if s.conn != nil {
		s.conn.Close()
	}
	return errors.Join(append(errs, err)...)
}

// Replica is one replica of a service.
type Replica struct {
	*service.Replica
	die     context.CancelFunc
	killed  atomic.Bool
	stopped atomic.Bool
}

// Stop ends the replica as SIGTERM does. Only the first call has an effect.
func (r *Replica) Stop(ctx context.Context) error {
	if r.stopped.Swap(true) {
		return nil
	}
	err := r.Replica.Stop(ctx)
	r.die()
	if r.killed.Load() {
		return nil
	}
	return err
}

// Kill ends the replica nearly as a crash does: its connection is closed, so it
// publishes and acknowledges nothing more. Kill does not wait; the replica's own
// code may call it.
func (r *Replica) Kill() {
	r.killed.Store(true)
	r.Stream.JetStream().Conn().Close()
	r.die()
}
