package analytics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// counts are the numbers that are the same whenever and however often they are
// counted.
type counts struct {
	AsOf    uint64           `json:"as_of_sequence"`
	Orders  analytics.Orders `json:"orders"`
	Revenue event.Money      `json:"revenue"`
	Refunds event.Money      `json:"refunds"`
	Units   map[string]int64 `json:"units"`
	Reasons map[string]int64 `json:"cancelled_because"`
	Mails   int64            `json:"mails"`
	Parcels struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
		Max int64   `json:"max"`
	} `json:"time_to_parcel_ms"`
	Minutes []analytics.Minute `json:"per_minute"`
}

func (c counts) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// counting is a system whose analytics replicas can be asked one by one.
type counting struct {
	*systemtest.System
	running *systemtest.Replica // the newest

	mu   sync.Mutex
	apis []http.Handler // of every replica there was
}

func start(tb testing.TB, change ...func(*systemtest.Config)) *counting {
	tb.Helper()
	c := &counting{}
	c.System = systemtest.Start(tb, append(change, func(cfg *systemtest.Config) {
		if cfg.Wire == nil {
			cfg.Wire = map[string]service.Wire{}
		}
		cfg.Wire[analytics.Name] = func(rt *service.Runtime) (service.Part, error) {
			part, err := analytics.Wire(rt)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.apis = append(c.apis, part.HTTP)
			return part, err
		}
	})...)
	c.running = c.Replica(analytics.Name, 0)
	return c
}

// MustRestart replaces the newest replica and does something in between.
func (c *counting) MustRestart(tb testing.TB, between func()) {
	tb.Helper()
	ctx, cancel := app.StopTimeout(context.Background())
	defer cancel()
	if err := c.running.Stop(ctx); err != nil {
		tb.Fatalf("stop: %v", err)
	}
	between()
	var err error
	if c.running, err = c.Run(ctx, analytics.Name); err != nil {
		tb.Fatalf("run: %v", err)
	}
}

// MustGet asks the newest replica.
func (c *counting) MustGet(tb testing.TB) counts {
	tb.Helper()
	c.mu.Lock()
	api := c.apis[len(c.apis)-1]
	c.mu.Unlock()
	return MustGet(tb, api)
}

func MustGet(tb testing.TB, api http.Handler) (c counts) {
	tb.Helper()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/analytics", nil))
	if got, want := w.Code, http.StatusOK; got != want {
		tb.Fatalf("GET /analytics: %d, want %d", got, want)
	}
	if got, want := w.Header().Get("Content-Type"), "application/json"; got != want {
		tb.Errorf("Content-Type = %q, want %q", got, want)
	}
	if err := json.NewDecoder(w.Body).Decode(&c); err != nil {
		tb.Fatalf("GET /analytics: %v", err)
	}
	return c
}

// MustAwait returns the newest replica's numbers once all of the stream is in them.
func (c *counting) MustAwait(tb testing.TB) (got counts) {
	tb.Helper()
	last := c.MustLast(tb)
	systemtest.Until(tb, fmt.Sprintf("analytics counts up to sequence %d", last), func() bool {
		got = c.MustGet(tb)
		return got.AsOf >= last
	})
	if got.AsOf != last {
		tb.Fatalf("analytics counts up to %d, the stream ends at %d", got.AsOf, last)
	}
	return got
}

// MustLast is the sequence of the last event that is counted.
func (c *counting) MustLast(tb testing.TB) (last uint64) {
	tb.Helper()
	s, err := c.JetStream().Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		tb.Fatal(err)
	}
	for _, filter := range analytics.Consumes {
		if m, err := s.GetLastMsgForSubject(context.Background(), filter); err == nil {
			last = max(last, m.Sequence)
		}
	}
	return last
}

func (c *counting) MustDelete(tb testing.TB) {
	tb.Helper()
	kv, err := c.JetStream().KeyValue(context.Background(), stream.AnalyticsBucket)
	if err != nil {
		tb.Fatal(err)
	}
	if err := kv.Delete(context.Background(), analytics.Name); err != nil {
		tb.Fatal(err)
	}
}

// MustPlay places orders of these scenarios, n of each, and awaits their ends.
func MustPlay(tb testing.TB, sys *counting, n int, names ...string) {
	tb.Helper()
	var playing sync.WaitGroup
	for _, sc := range demo.Scenarios() {
		for _, name := range names {
			for range n {
				if sc.Name != name {
					continue
				}
				playing.Go(func() {
					if err := systemtest.Play(context.Background(), sys.Shop, sc); err != nil {
						tb.Errorf("%s: %v", sc.Name, err)
					}
				})
			}
		}
	}
	playing.Wait()
}
