package orders_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

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
	"example.org/ordertrail/trail"
)

// shop is the service alone: nobody concludes its orders, so they stay as they
// are, and nothing but its own events is in the stream.
type shop struct {
	url    string
	client *http.Client
	rt     *service.Runtime
	js     jetstream.JetStream // an administrator's
	spans  *tracetest.SpanRecorder
	trails *trail.Store
}

func open(tb testing.TB) *shop {
	tb.Helper()
	return openOn(tb, systemtest.Server(tb).Connect)
}

// openOn runs the service on a server of the test's own.
func openOn(tb testing.TB, connect func(...nats.Option) (*nats.Conn, error)) *shop {
	tb.Helper()
	return openWired(tb, connect, nil)
}

// openWired runs the service as the test wires it; nil: as it is.
func openWired(tb testing.TB, connect func(...nats.Option) (*nats.Conn, error), wire service.Wire) *shop {
	tb.Helper()
	ctx := context.Background()
	admin, err := connect(nats.MaxReconnects(-1), nats.ReconnectWait(reconnectSoon))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(admin.Close)
	s := &shop{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}, spans: tracetest.NewSpanRecorder(), trails: trail.NewStore(trail.StoreOptions{})}
	if s.js, err = jetstream.New(admin); err != nil {
		tb.Fatal(err)
	}
	if err := stream.Provision(ctx, s.js, stream.Topology{Durables: app.Durables()}); err != nil {
		tb.Fatal(err)
	}
	s.rt, err = service.NewRuntime(ctx, service.Config{
		Name: orders.Name, Log: slog.DiscardHandler,
		Connect: func(opts ...nats.Option) (*nats.Conn, error) {
			return connect(append(opts, nats.ReconnectWait(reconnectSoon))...)
		},
		Tracing: []telemetry.Option{telemetry.WithSpanProcessor(s.spans), telemetry.WithSpanProcessor(s.trails)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	if wire == nil {
		wire = orders.Service(s.trails, nil).Wire
	}
	part, err := wire(s.rt)
	if err != nil {
		tb.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- part.Run(running) }()
	mux := http.NewServeMux()
	s.rt.Health(mux)
	mux.Handle("/", part.HTTP)
	server := httptest.NewServer(mux)
	s.url = server.URL
	tb.Cleanup(func() {
		s.client.CloseIdleConnections()
		server.Close()
		stop()
		if err := <-ran; err != nil {
			tb.Errorf("run: %v", err)
		}
		closing, cancel := app.StopTimeout(ctx)
		defer cancel()
		if err := s.rt.Close(closing); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
}

func (s *shop) do(method, path, body string, header http.Header) (answer, error) {
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if header != nil {
		r.Header = header
	}
	response, err := s.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	return answer{response, got}, err
}

func (s *shop) MustDo(tb testing.TB, method, path, body string, header http.Header) answer {
	tb.Helper()
	a, err := s.do(method, path, body, header)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// MustDoAll makes n requests at once.
func (s *shop) MustDoAll(tb testing.TB, n int, request func(i int) (method, path, body string, header http.Header)) []answer {
	tb.Helper()
	answers, errs := make([]answer, n), make([]error, n)
	var asking sync.WaitGroup
	for i := range n {
		asking.Go(func() { answers[i], errs[i] = s.do(request(i)) })
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	return answers
}

func jsonHeader(more ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(more); i += 2 {
		h.Add(more[i], more[i+1])
	}
	return h
}

func (s *shop) MustPost(tb testing.TB, body string, more ...string) answer {
	tb.Helper()
	return s.MustDo(tb, http.MethodPost, "/orders", body, jsonHeader(more...))
}

func (s *shop) MustGet(tb testing.TB, path string) answer {
	tb.Helper()
	return s.MustDo(tb, http.MethodGet, path, "", nil)
}

// MustPlace places an order.
func (s *shop) MustPlace(tb testing.TB) orders.Order {
	tb.Helper()
	a := s.MustPost(tb, body(nil))
	wantStatus(tb, a, http.StatusAccepted)
	return MustOrder(tb, a)
}

func MustOrder(tb testing.TB, a answer) (o orders.Order) {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		tb.Fatalf("answer %s: %v", a.body, err)
	}
	return o
}

func wantStatus(tb testing.TB, a answer, want int) {
	tb.Helper()
	if a.StatusCode != want {
		tb.Fatalf("%s %s: %d %s, want %d", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, want)
	}
}

// problem is RFC 9457's object.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

// wantProblem checks that an answer is a problem of this status whose detail says
// each of these things.
func wantProblem(tb testing.TB, a answer, status int, says ...string) (p problem) {
	tb.Helper()
	wantStatus(tb, a, status)
	if got, want := a.Header.Get("Content-Type"), "application/problem+json"; got != want {
		tb.Errorf("Content-Type = %q, want %q", got, want)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		tb.Fatalf("answer %s: %v", a.body, err)
	}
	if p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Status != status || p.Detail == "" {
		tb.Errorf("problem = %+v, want about:blank, %q, %d and a detail", p, http.StatusText(status), status)
	}
	for _, what := range says {
		if !strings.Contains(p.Detail, what) {
			tb.Errorf("detail = %q, want it to say %q", p.Detail, what)
		}
	}
	for _, e := range p.Errors {
		if !strings.HasPrefix(e.Pointer, "/") || e.Detail == "" {
			tb.Errorf("error = %+v, want a pointer and a detail", e)
		}
	}
	return p
}

// MustLast is the sequence of the stream's last message.
func (s *shop) MustLast(tb testing.TB) uint64 {
	tb.Helper()
	in, err := s.js.Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		tb.Fatal(err)
	}
	return in.CachedInfo().State.LastSeq
}

// MustStored is the message stored on a subject.
func (s *shop) MustStored(tb testing.TB, subject string) *jetstream.RawStreamMsg {
	tb.Helper()
	in, err := s.js.Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := in.GetLastMsgForSubject(context.Background(), subject)
	if err != nil {
		tb.Fatalf("read %s: %v", subject, err)
	}
	return m
}

// MustPublish stores an event as the service that it belongs to would.
func (s *shop) MustPublish(tb testing.TB, t event.Type, p event.Payload) {
	tb.Helper()
	if _, err := s.rt.Stream.PublishOnce(context.Background(), event.Draft{Type: t, Payload: p}, stream.First(t, p.Key())); err != nil {
		tb.Fatal(err)
	}
}

// body is an order's, changed at some places: a path such as items.0.quantity is
// set to a value, and removed if that is absent.
func body(change map[string]any) string {
	order := map[string]any{
		"customer": map[string]any{"name": "Robin Example", "email": "robin@example.com"},
		"items":    []any{map[string]any{"sku": "TRAIL-MAP", "quantity": 2}, map[string]any{"sku": "COMPASS", "quantity": 1}},
		"payment":  map[string]any{"token": "tok_ok"},
		"shipping": map[string]any{"address": "1 Trailhead Way, 12345 Sampleton"},
	}
	for path, value := range change {
		set(order, strings.Split(path, "."), value)
	}
	b, err := json.Marshal(order)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// absent is the value of a member that is not there.
type absent struct{}

func set(in any, path []string, value any) {
	if list, ok := in.([]any); ok {
		i := int(path[0][0] - '0')
		if len(path) == 1 {
			list[i] = value
			return
		}
		set(list[i], path[1:], value)
		return
	}
	object := in.(map[string]any)
	switch {
	case len(path) > 1:
		set(object[path[0]], path[1:], value)
	case value == absent{}:
		delete(object, path[0])
	default:
		object[path[0]] = value
	}
}

// spanNamed waits for a span of this name about this order.
func spanNamed(tb testing.TB, spans *tracetest.SpanRecorder, name, order string) (found sdktrace.ReadOnlySpan) {
	tb.Helper()
	systemtest.Until(tb, "a span "+name, func() bool {
		for _, s := range spans.Ended() {
			for _, a := range s.Attributes() {
				if s.Name() == name && a.Key == event.OrderIDKey && a.Value.AsString() == order {
					found = s
					return true
				}
			}
		}
		return false
	})
	return found
}
