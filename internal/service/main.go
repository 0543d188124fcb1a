package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Main runs one service as a process: settings from the environment, until
// SIGTERM or SIGINT, then an orderly end. httpAddr is where it listens by
// default if it has an HTTP API.
func Main(name, httpAddr string, wire Wire) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	settings, err := ReadSettings()
	if err == nil {
		if settings.HTTPAddr == "" {
			settings.HTTPAddr = httpAddr
		}
		err = run(ctx, name, settings, wire)
	}
	if err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, settings Settings, wire Wire) (err error) {
	rt, err := NewRuntime(ctx, Config{Name: name, Settings: settings})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err = errors.Join(err, rt.Close(closing))
	}()
	part, err := wire(rt)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	rt.Health(mux)
	addr := settings.HealthAddr
	if part.HTTP != nil {
		addr = settings.HTTPAddr
		mux.Handle("/", part.HTTP)
	}
	var listener net.Listener
	if addr != "" {
		if listener, err = net.Listen("tcp", addr); err != nil {
			return fmt.Errorf("listen (HTTP_ADDR and HEALTH_ADDR say where): %w", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return part.Run(ctx) })
	if listener != nil {
		rt.Log.Info("listening", "address", listener.Addr().String())
		group.Go(func() error { return Serve(ctx, listener, mux) })
	}
	rt.Log.Info("running", "instance", rt.Instance)
	return group.Wait()
}

// Health adds the health checks: alive, and able to work.
func (rt *Runtime) Health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := rt.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// Serve serves h until ctx ends, then lets the requests under way finish.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(closing)
	<-done
	return err
}
