// Package systemtest runs the whole system for a test: an embedded server with a
// file store, all six services, and a recorder of every span they end.
package systemtest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/orders"
)

// Patience is how long a test waits for an event that should come soon.
const Patience = time.Minute

// System is a running system with its shop and its spans.
type System struct {
	*Replicas
	Shop  demo.Shop
	Spans Spans
}

// Spans records every span that ends, and keeps it when the system is stopped.
type Spans struct{ *tracetest.SpanRecorder }

// GetSpans returns the spans that have ended, as they were then.
func (s Spans) GetSpans() tracetest.SpanStubs {
	return tracetest.SpanStubsFromReadOnlySpans(s.Ended())
}

// Start runs the system until the test ends; change adjusts its configuration.
func Start(t testing.TB, change ...func(*Config)) *System {
	t.Helper()
	return StartOn(t, Server(t).Connect, change...)
}

// StartOn runs the system on a server of the test's own.
func StartOn(t testing.TB, connect func(...nats.Option) (*nats.Conn, error), change ...func(*Config)) *System {
	t.Helper()
	spans := Spans{tracetest.NewSpanRecorder()}
	cfg := Config{
		Connect: connect,
		Tracing: func(string) []telemetry.Option {
			return []telemetry.Option{telemetry.WithSpanProcessor(spans)}
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	sys, err := Run(Context(t), cfg)
	if err != nil {
		t.Fatalf("start the system: %v", err)
	}
	shop := Shop(sys)
	t.Cleanup(func() {
		shop.Client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := sys.Stop(ctx); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	return &System{Replicas: sys, Shop: shop, Spans: spans}
}

// Operator returns an administrator's access to the streams, untraced.
func (s *System) Operator(t testing.TB) *stream.Client {
	t.Helper()
	client, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// AwaitStock waits for inventory's first stock. Until then a reservation may take
// longer than a charge.
func (s *System) AwaitStock(t testing.TB) {
	t.Helper()
	ctx := Context(t)
	orders, err := s.JetStream().Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range catalog.Products() {
		Until(t, "there is stock of "+p.SKU, func() bool {
			_, err := orders.GetLastMsgForSubject(ctx, event.StockAdded.Subject(p.SKU))
			return err == nil
		})
	}
}

// Shop is a system's API, for many customers at once.
func Shop(sys *Replicas) demo.Shop {
	return demo.Shop{URL: sys.URL, Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
}

// Play is [demo.Play] on a machine that may be slow: a cancellation may be too late for
// the second that the charge takes, or come after the conclusion.
func Play(ctx context.Context, shop demo.Shop, sc demo.Scenario) (orders.Order, error) {
	order, err := demo.Play(ctx, shop, sc)
	var refused *demo.StatusError
	late := order.State == orders.StateShipped || order.Reason == event.ReasonCustomer ||
		errors.As(err, &refused) && refused.Code == http.StatusConflict
	if sc.Cancel && late {
		return order, nil
	}
	return order, err
}

// Deadline has orders cancelled that are not concluded by then.
func Deadline(d time.Duration) func(*Config) {
	return func(cfg *Config) { cfg.Settings.OrderDeadline = d }
}

// Context returns a context that ends with the test, or when Patience is over.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Scenario returns the scenario of that name.
func Scenario(t testing.TB, name string) demo.Scenario {
	t.Helper()
	i := slices.IndexFunc(demo.Scenarios(), func(sc demo.Scenario) bool { return sc.Name == name })
	if i < 0 {
		t.Fatalf("unknown scenario %q", name)
	}
	return demo.Scenarios()[i]
}

// Server runs an embedded server until the test ends.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatalf("start a server: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Until polls until ok returns true, or fails the test when Patience is over.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for: %s", Patience, what)
		}
	}
}

// Serve serves a handler until the test ends and returns its URL.
func Serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// Analytics is the part of GET /analytics that tests check.
type Analytics struct {
	AsOf   uint64 `json:"as_of_sequence"`
	Orders struct {
		Created, Shipped, Cancelled int
	} `json:"orders"`
	Revenue event.Money    `json:"revenue"`
	Units   map[string]int `json:"units"`
}

// GetAnalytics asks for it.
func GetAnalytics(t testing.TB, url string) (a Analytics) {
	t.Helper()
	answer, err := http.Get(url + "/analytics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(answer.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}
