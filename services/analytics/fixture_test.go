package analytics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

func TestMain(m *testing.M) { systemtest.Main(m, 8) }

// system is a running system and an operator's connection to it.
type system struct {
	*systemtest.System
	connect  func(...nats.Option) (*nats.Conn, error)
	operator *service.Runtime // its spans are recorded with those of the system
	kv       jetstream.KeyValue
}

func start(tb testing.TB, change ...func(*systemtest.Config)) *system {
	tb.Helper()
	s := &system{}
	s.System = systemtest.Start(tb, append(change, func(cfg *systemtest.Config) { s.connect = cfg.Connect })...)
	s.operator = MustOperate(tb, s.connect, telemetry.WithSpanProcessor(s.Spans))
	var err error
	if s.kv, err = s.JetStream().KeyValue(context.Background(), stream.AnalyticsBucket); err != nil {
		tb.Fatal(err)
	}
	return s
}

// MustOperate connects as an operator's command does.
func MustOperate(tb testing.TB, connect func(...nats.Option) (*nats.Conn, error), opts ...telemetry.Option) *service.Runtime {
	tb.Helper()
	rt, err := service.NewRuntime(context.Background(), service.Config{
		Name: "replay", Connect: connect, Log: slog.DiscardHandler, Tracing: opts,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := app.StopTimeout(context.Background())
		defer cancel()
		if err := rt.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return rt
}

func (s *system) MustReplay(tb testing.TB) analytics.ReplayResult {
	tb.Helper()
	result, err := analytics.Replay(context.Background(), s.operator)
	if err != nil {
		tb.Fatalf("replay: %v", err)
	}
	return result
}

// MustRestart replaces the newest replica and calls between while none of it runs.
func (s *system) MustRestart(tb testing.TB, between func()) {
	tb.Helper()
	ctx, cancel := app.StopTimeout(context.Background())
	defer cancel()
	if err := s.Latest(analytics.Name).Stop(ctx); err != nil {
		tb.Fatalf("stop: %v", err)
	}
	between()
	if _, err := s.Run(ctx, analytics.Name); err != nil {
		tb.Fatalf("run: %v", err)
	}
}

// numbers is an answer to GET /analytics.
type numbers struct {
	analytics.Aggregate
	JSON string `json:"-"`
}

func MustGet(tb testing.TB, api http.Handler) (n numbers) {
	tb.Helper()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/analytics", nil))
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != "application/json" {
		tb.Fatalf("GET /analytics: %d, %s", w.Code, got)
	}
	n.JSON = w.Body.String()
	if err := json.Unmarshal(w.Body.Bytes(), &n); err != nil {
		tb.Fatalf("GET /analytics: %v", err)
	}
	return n
}

// MustShow returns the numbers that the newest replica shows.
func (s *system) MustShow(tb testing.TB) numbers {
	tb.Helper()
	return MustGet(tb, s.Latest(analytics.Name).HTTP)
}

// MustAwait returns the numbers of the newest replica after the last event.
func (s *system) MustAwait(tb testing.TB) (got numbers) {
	tb.Helper()
	last := systemtest.Read(tb, s.JetStream()).LastOfOrder()
	systemtest.Until(tb, fmt.Sprintf("analytics counts up to sequence %d", last), func() bool {
		got = s.MustShow(tb)
		return got.AsOf == last
	})
	return got
}

func (s *system) MustStored(tb testing.TB) string {
	tb.Helper()
	entry, err := s.kv.Get(context.Background(), analytics.Name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(entry.Value())
}

// MustPut stores a value; an empty one deletes what is stored.
func (s *system) MustPut(tb testing.TB, value string) {
	tb.Helper()
	_, err := s.kv.PutString(context.Background(), analytics.Name, value)
	if value == "" {
		err = s.kv.Delete(context.Background(), analytics.Name)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// MustPlay places n orders of each scenario and waits for their ends.
func (s *system) MustPlay(tb testing.TB, n int, names ...string) {
	tb.Helper()
	scenarios := map[string]demo.Scenario{}
	for _, sc := range demo.Scenarios() {
		scenarios[sc.Name] = sc
	}
	var playing sync.WaitGroup
	for i := range n * len(names) {
		playing.Go(func() {
			if _, err := systemtest.Play(context.Background(), s.Shop, scenarios[names[i/n]]); err != nil {
				tb.Errorf("%s: %v", names[i/n], err)
			}
		})
	}
	playing.Wait()
}
