package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
)

// Bounds of the servers.
const (
	maxConnections = 512 // for each address
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = 5 * time.Minute
	stopTimeout    = 3 * time.Second // for requests; together with forwardTimeout
	forwardTimeout = 5 * time.Second // for what is to be forwarded, less than the ten seconds after which orchestrators kill
)

// server holds the settings of trail serve.
type server struct {
	page, http, grpc string // addresses
	memory           int    // MiB
	forward          string
	headers          headers
	guard            guard
	key              string
}

func serveCommand(f *flag.FlagSet) cli.Run {
	s := server{headers: headers{}}
	f.StringVar(&s.page, "page", "127.0.0.1:8090", "`ADDR` of the page, default 127.0.0.1:8090")
	f.StringVar(&s.http, "http", "127.0.0.1:4318", "`ADDR` for OTLP over HTTP, default 127.0.0.1:4318")
	f.StringVar(&s.grpc, "grpc", "127.0.0.1:4317", "`ADDR` for OTLP over gRPC, default 127.0.0.1:4317")
	f.IntVar(&s.memory, "memory", trail.DefaultMaxBytes>>20, "`MIB` of memory for spans, default 128; beyond it the oldest traces are dropped")
	f.StringVar(&s.key, "key", "", "attribute that separates stories, such as order.id; default none")
	f.StringVar(&s.forward, "forward", "", "`URL` of a backend that gets everything too: http(s)://HOST:4318, or grpc(s)://HOST:4317")
	f.Var(s.headers, "forward-header", "`NAME=VALUE` to send to that backend; may be repeated")
	f.StringVar(&s.guard.token, "token", os.Getenv("TRAIL_TOKEN"), "every request must have this `TOKEN`: Authorization: Bearer TOKEN, or ?token=TOKEN once in a browser; default $TRAIL_TOKEN. Required if an address is not loopback")
	f.Func("allow-host", "`NAME` of this host in URLs, beside localhost; may be repeated", func(name string) error {
		s.guard.hosts = append(s.guard.hosts, respond.HostName(name))
		return nil
	})
	return func(ctx context.Context, out io.Writer, _ []string) error { return s.run(ctx, out) }
}

// headers is a flag.
type headers map[string]string

func (h headers) String() string { return "" }

func (h headers) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE")
	}
	h[name] = value
	return nil
}

func (s *server) run(ctx context.Context, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if s.memory < 1 {
		return cli.Usagef("serve: --memory must be 1 or more MiB, not %d", s.memory)
	}
	if os.Getenv("GOMEMLIMIT") == "" { // of the whole process: the spans, the requests, the queue, and the collector's share
		debug.SetMemoryLimit(int64(s.memory)<<20*3/2 + 160<<20)
	}
	store := trail.NewStore(s.memory << 20)
	otlp := &receiver.Receiver{Keep: store.Add}
	pages := &pages{store: store, key: s.key}
	group, ctx := errgroup.WithContext(ctx)
	if s.forward == "" && len(s.headers) > 0 {
		return cli.Usagef("serve: --forward-header needs --forward")
	}
	if s.forward != "" {
		f, err := receiver.NewForwarder(s.forward, s.headers, log)
		if err != nil {
			return cli.Usagef("serve: --forward: %w", err)
		}
		otlp.Forward, pages.forward = f.Forward, f.Counts
		// It ends after the requests.
		forwarding, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() { f.Run(forwarding, forwardTimeout); close(done) }()
		defer func() { stop(); <-done }()
	}
	for _, own := range []struct{ flag, addr string }{{"page", s.page}, {"http", s.http}, {"grpc", s.grpc}} {
		if same(s.forward, own.addr) {
			return cli.Usagef("serve: --forward %s is an address of trail serve itself: move that to another port with --%s 127.0.0.1:PORT", s.forward, own.flag)
		}
	}
	var listeners []net.Listener
	var urls []string
	for _, listen := range []struct{ flag, addr string }{{"page", s.page}, {"http", s.http}, {"grpc", s.grpc}} {
		listener, err := s.listen(listen.flag, listen.addr)
		if err != nil {
			return err
		}
		listeners, urls = append(listeners, listener), append(urls, respond.URL(listener.Addr()))
	}
	pages.otlp = urls[1]
	for i, handler := range []http.Handler{pages.handler(), otlp, otlp} {
		group.Go(func() error { return serveHTTP(ctx, listeners[i], s.guard.wrap(handler)) })
	}
	fmt.Fprintf(out, "trail: stories at %s, OTLP over HTTP at %s, OTLP over gRPC at %s\n", urls[0], urls[1], urls[2])
	return group.Wait()
}

// same reports whether a URL leads to an address of this host.
func same(to, addr string) bool {
	u, err := url.Parse(to)
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" || port != cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]) {
		return false
	}
	ip := net.ParseIP(host)
	return host == u.Hostname() || respond.IsLoopback(u.Hostname()) && (respond.IsLoopback(host) || host == "" || ip != nil && ip.IsUnspecified())
}

// listen opens an address. One that other machines reach requires a token.
func (s *server) listen(name, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, cli.Usagef("serve: --%s: want an address such as 127.0.0.1:8090, not %q", name, addr)
	}
	if !respond.IsLoopback(host) && s.guard.token == "" {
		return nil, cli.Usagef("serve: --%s %s: other machines reach this address: set --token or TRAIL_TOKEN, or use 127.0.0.1", name, addr)
	}
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("serve: %s is taken, by a Jaeger or a collector perhaps: stop that program, or choose another address with --%s 127.0.0.1:PORT", addr, name)
	}
	if err != nil {
		return nil, fmt.Errorf("serve: --%s: %w", name, err)
	}
	return netutil.LimitListener(listener, maxConnections), nil
}

// serveHTTP serves until ctx ends, and then finishes the requests.
func serveHTTP(ctx context.Context, listener net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 1 << 16, Protocols: new(http.Protocols),
		// A connection buffers this much that the receiver has not read.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 1 << 18, MaxReceiveBufferPerStream: 1 << 18},
		// A feed of a page ends with ctx.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true) // gRPC
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := s.Shutdown(stopping)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
		stopped <- err
	})
	defer stop()
	if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
