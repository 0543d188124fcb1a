package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/telemetry"
)

// Main runs one service as a process, with settings from the environment, until SIGTERM
// or SIGINT. It exits with 1 and one line on standard error if the service fails. There
// are no arguments but -h, which prints help; for others it exits with 2.
func Main(def Definition, args []string) {
	if len(args) > 0 {
		help := def.Name + " runs the service " + def.Name + " until SIGTERM. It takes no arguments.\n" +
			"Settings are read from the environment: see docs/settings.md."
		if slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]) {
			fmt.Println(help)
			return
		}
		fmt.Fprintf(os.Stderr, "%s: unexpected %q. %s\n", def.Name, args[0], strings.ReplaceAll(help, "\n", " "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	settings, err := ReadSettings()
	if err == nil {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: settings.LogLevel})).With("service", def.Name)
		otel.SetErrorHandler(newTelemetryErrors(log, time.Now))
		addr := settings.HealthAddr
		if def.HTTPAddr != "" {
			addr = cmp.Or(settings.HTTPAddr, def.HTTPAddr)
		}
		err = run(ctx, def, addr, settings, log)
	}
	if err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", def.Name, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// telemetryErrors logs that spans or metrics are not exported, at most once a minute,
// because a collector that is away fails each batch.
type telemetryErrors struct {
	log        *slog.Logger
	now        func() time.Time
	limit      *rate.Limiter
	suppressed atomic.Int64
}

func newTelemetryErrors(log *slog.Logger, now func() time.Time) *telemetryErrors {
	return &telemetryErrors{log: log, now: now, limit: rate.NewLimiter(rate.Every(time.Minute), 1)}
}

// Handle implements otel.ErrorHandler.
func (t *telemetryErrors) Handle(err error) {
	if !t.limit.AllowN(t.now(), 1) {
		t.suppressed.Add(1)
		return
	}
	t.log.Warn("telemetry export failed; services are not affected. Check OTEL_EXPORTER_OTLP_ENDPOINT", "error", err, "suppressed", t.suppressed.Swap(0))
}

// run runs the service until ctx ends. It serves HTTP at addr; "" for none. It logs why the
// service stops, and that it has stopped.
func run(ctx context.Context, def Definition, addr string, settings Settings, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	// The port comes first: one that is taken fails at once, and a service that waits
	// for NATS is alive.
	front := newFront(def, settings)
	listening := slog.String("address", "none")
	if addr != "" {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen at HTTP_ADDR or HEALTH_ADDR: %w", err)
		}
		listening = slog.String("address", listener.Addr().String())
		group.Go(func() error { return Serve(ctx, listener, front) })
	}
	var r *Replica
	var ended time.Time // zero for a service that could not start
	stopping := func() {
		ended = time.Now()
		reason := context.Cause(ctx)
		if reason == nil {
			reason = r.err
		}
		log.Info("stopping", "reason", reason)
	}
	group.Go(func() (err error) {
		if r, err = Start(ctx, def, Config{Settings: settings, Tracing: []telemetry.Option{telemetry.WithNameFromEnv()}}); err != nil {
			if ctx.Err() != nil { // while it waited
				stopping()
			}
			return err
		}
		mux := http.NewServeMux()
		r.Health(mux)
		if r.HTTP != nil {
			mux.Handle("/", KnownHosts(settings, r.HTTP))
		}
		front.handler.Store(mux)
		r.Log.Info("running", "instance", r.Instance, listening)
		select {
		case <-ctx.Done():
		case <-r.done:
		}
		stopping()
		finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		return r.finish(finishing)
	})
	err := group.Wait()
	defer func() {
		if !ended.IsZero() {
			log.Info("stopped", "after", time.Since(ended).Round(time.Millisecond))
		}
	}()
	if r == nil {
		return err
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(exportTimeout, time.Until(ended.Add(endTimeout))))
	defer cancel()
	return errors.Join(err, r.Close(closing))
}

// endTimeout bounds the whole end of a service, because orchestrators kill a process
// after ten seconds. drainTimeout of it is for the messages and requests that are
// being handled, the rest for the spans that are left.
const endTimeout = 8 * time.Second

// exportTimeout bounds the export of the spans that are left: a collector that does
// not answer delays no service's end for longer.
const exportTimeout = 4 * time.Second

// front answers requests while the service waits for NATS, and passes them to the
// service's handler afterwards.
type front struct {
	waiting http.Handler
	handler atomic.Pointer[http.ServeMux]
}

func newFront(def Definition, settings Settings) *front {
	f := &front{waiting: respond.Handler(func(http.ResponseWriter, *http.Request) error { return ErrWaiting })}
	if def.Waiting != nil {
		f.waiting = KnownHosts(settings, def.Waiting(settings))
	}
	return f
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch h := f.handler.Load(); {
	case h != nil:
		h.ServeHTTP(w, r)
	case r.URL.Path == "/healthz":
		fmt.Fprintln(w, "ok")
	default:
		f.waiting.ServeHTTP(w, r)
	}
}

// Health adds the health checks: /healthz answers while the process runs, /readyz while
// the service can do its work.
func (rt *Runtime) Health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := rt.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}
