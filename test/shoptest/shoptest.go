// Package shoptest runs the orders service for a test, as its package wires it, and is
// a client of its API.
package shoptest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// Unknown is an order id made long ago, for which no replica can be late.
const Unknown = "01890000-0000-7000-8000-000000000000"

// ClientHeader makes a request one of another client, with this IP address.
const ClientHeader = "Shoptest-Client"

// Shop is a running service and its client. Opened alone, without the other services,
// its orders stay as they are, and the stream has its events only.
type Shop struct {
	URL       string
	Client    *http.Client
	Runtime   *service.Runtime
	JetStream jetstream.JetStream // of an administrator
	Spans     *tracetest.SpanRecorder
}

// Of returns the shop of a whole system.
func Of(sys *systemtest.System) *Shop {
	return &Shop{URL: sys.URL, Client: sys.Shop.Client, JetStream: sys.JetStream()}
}

// Connect connects to a test's server.
type Connect func(...nats.Option) (*nats.Conn, error)

const reconnectSoon = 10 * time.Millisecond

// Open runs the service until the test ends. Its spans also go to the processors.
func Open(tb testing.TB, connect Connect, wire service.Wire, processors ...sdktrace.SpanProcessor) *Shop {
	tb.Helper()
	ctx := context.Background()
	admin, err := connect(nats.MaxReconnects(-1), nats.ReconnectWait(reconnectSoon))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(admin.Close)
	s := &Shop{Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}, Spans: tracetest.NewSpanRecorder()}
	if s.JetStream, err = jetstream.New(admin); err != nil {
		tb.Fatal(err)
	}
	if err := stream.Provision(ctx, s.JetStream, stream.Topology{Durables: app.Durables()}); err != nil {
		tb.Fatal(err)
	}
	cfg := service.Config{
		Name: orders.Name, Log: slog.DiscardHandler,
		Connect: func(opts ...nats.Option) (*nats.Conn, error) {
			return connect(append(opts, nats.ReconnectWait(reconnectSoon))...)
		},
	}
	for _, p := range append(processors, s.Spans) {
		cfg.Tracing = append(cfg.Tracing, telemetry.WithSpanProcessor(p))
	}
	if s.Runtime, err = service.NewRuntime(ctx, cfg); err != nil {
		tb.Fatal(err)
	}
	part, err := wire(s.Runtime)
	if err != nil {
		tb.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- part.Run(running) }()
	mux := http.NewServeMux()
	s.Runtime.Health(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if address := r.Header.Get(ClientHeader); address != "" {
			r.RemoteAddr = address + ":1"
		}
		part.HTTP.ServeHTTP(w, r)
	})
	server := httptest.NewServer(mux)
	s.URL = server.URL
	tb.Cleanup(func() {
		s.Client.CloseIdleConnections()
		server.Close()
		stop()
		if err := <-ran; err != nil {
			tb.Errorf("run: %v", err)
		}
		closing, cancel := app.StopTimeout(ctx)
		defer cancel()
		if err := s.Runtime.Close(closing); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	// Feeds end while the service is not ready.
	systemtest.Until(tb, "the shop is ready", func() bool { return s.MustGet(tb, "/readyz").StatusCode == http.StatusOK })
	return s
}

// Do makes a request and reads the answer.
func (s *Shop) Do(method, path, body string, header http.Header) (Answer, error) {
	r, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if header != nil {
		r.Header = header
	}
	response, err := s.Client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	return Answer{response, got}, err
}

// MustDo makes a request and reads the answer.
func (s *Shop) MustDo(tb testing.TB, method, path, body string, header http.Header) Answer {
	tb.Helper()
	a, err := s.Do(method, path, body, header)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// MustDoAll makes n requests at once.
func (s *Shop) MustDoAll(tb testing.TB, n int, request func(i int) (method, path, body string, header http.Header)) []Answer {
	tb.Helper()
	answers, errs := make([]Answer, n), make([]error, n)
	var asking sync.WaitGroup
	for i := range n {
		asking.Go(func() { answers[i], errs[i] = s.Do(request(i)) })
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	return answers
}

// JSON returns the header of a request with JSON, and more fields as pairs.
func JSON(more ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(more); i += 2 {
		h.Add(more[i], more[i+1])
	}
	return h
}

// MustPost posts an order, with more header fields as pairs.
func (s *Shop) MustPost(tb testing.TB, body string, more ...string) Answer {
	tb.Helper()
	return s.MustDo(tb, http.MethodPost, "/orders", body, JSON(more...))
}

// MustGet gets a path.
func (s *Shop) MustGet(tb testing.TB, path string) Answer {
	tb.Helper()
	return s.MustDo(tb, http.MethodGet, path, "", nil)
}

// MustPlace places an order.
func (s *Shop) MustPlace(tb testing.TB) orders.Order {
	tb.Helper()
	a := s.MustPost(tb, Body(nil))
	a.WantStatus(tb, http.StatusAccepted)
	return a.MustOrder(tb)
}

// MustLast returns the sequence of the stream's last message.
func (s *Shop) MustLast(tb testing.TB) uint64 {
	tb.Helper()
	in, err := s.JetStream.Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		tb.Fatal(err)
	}
	return in.CachedInfo().State.LastSeq
}

// MustPublish stores an event as the service that it belongs to would.
func (s *Shop) MustPublish(tb testing.TB, t event.Type, p event.Payload) {
	tb.Helper()
	if _, err := s.Runtime.Stream.PublishOnce(context.Background(), event.Draft{Type: t, Payload: p}, stream.First(t, p.Key())); err != nil {
		tb.Fatal(err)
	}
}

// MustStored returns the message stored on a subject.
func (s *Shop) MustStored(tb testing.TB, subject string) *jetstream.RawStreamMsg {
	tb.Helper()
	in, err := s.JetStream.Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := in.GetLastMsgForSubject(context.Background(), subject)
	if err != nil {
		tb.Fatalf("read %s: %v", subject, err)
	}
	return m
}

// AwaitListed waits until the service has folded an order.
func (s *Shop) AwaitListed(tb testing.TB, id string) {
	tb.Helper()
	systemtest.Until(tb, "the order is listed", func() bool {
		var list struct{ Orders []orders.Order }
		s.MustGet(tb, "/orders").MustDecode(tb, &list)
		return slices.ContainsFunc(list.Orders, func(o orders.Order) bool { return o.ID == id })
	})
}
