package load_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/test/systemtest"
)

// Customers repeat a request after its Retry-After and place no order twice, whether or
// not the first request reached the shop.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for name, burst := range map[string]bool{"EachWaits": false, "Burst": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sys := systemtest.Start(t)
			const n = 6
			var out systemtest.Output
			door := &busyDoor{shop: proxy(t, sys.URL), seen: map[string]int{}}
			err := load.Run(context.Background(), load.Options{
				URL: systemtest.Serve(t, door), Orders: n, Concurrency: 3, Burst: burst, Out: &out,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := out.String(); !strings.HasPrefix(got, "0 of 6 orders failed\n6 orders in ") || !strings.HasSuffix(got, "\n6 requests repeated\n") {
				t.Errorf("output: %s", got)
			}
			systemtest.Settle(t, sys.JetStream(), n).Audit(t, nil)
			if got := len(systemtest.Read(t, sys.JetStream()).Orders); got != n {
				t.Errorf("%d orders are stored, want %d", got, n)
			}
			for key, times := range door.seen {
				if key == "" || times != 2 {
					t.Errorf("Idempotency-Key %q was used %d times, want 2", key, times)
				}
			}
		})
	}
}

// busyDoor answers the first request of each key with Retry-After. Half of these
// requests reach the shop nevertheless.
type busyDoor struct {
	shop http.Handler
	mu   sync.Mutex
	seen map[string]int // requests by Idempotency-Key
}

func (b *busyDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		b.shop.ServeHTTP(w, r)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	b.mu.Lock()
	b.seen[key]++
	again, lost := b.seen[key] > 1, len(b.seen)%2 == 0
	b.mu.Unlock()
	switch {
	case again:
		b.shop.ServeHTTP(w, r)
	case lost:
		b.shop.ServeHTTP(httptest.NewRecorder(), r)
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// A run in which some orders fail reports these first, and measures the others alone.
func TestSomeFail(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	shop := proxy(t, sys.URL)
	var asked atomic.Int64
	url := systemtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && asked.Add(1)%2 == 0 {
			http.Error(w, "no more", http.StatusInternalServerError)
			return
		}
		shop.ServeHTTP(w, r)
	}))
	var out systemtest.Output
	err := load.Run(context.Background(), load.Options{URL: url, Orders: 6, Concurrency: 1, Out: &out})
	if err == nil || !strings.Contains(err.Error(), "3 of 6 orders failed, the first: ") || !strings.Contains(err.Error(), "no more") {
		t.Errorf("got %v", err)
	}
	if got := out.String(); !strings.HasPrefix(got, "3 of 6 orders failed\n3 orders in ") || strings.Contains(got, "p50 0 ms") {
		t.Errorf("output: %s", got)
	}
}

// A run that is interrupted reports the numbers so far.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	shop := proxy(t, sys.URL)
	ctx, interrupt := context.WithCancel(context.Background())
	var placed atomic.Int64
	url := systemtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && placed.Add(1) == 3 {
			shop.ServeHTTP(httptest.NewRecorder(), r)
			interrupt()
			<-r.Context().Done()
			return
		}
		shop.ServeHTTP(w, r)
	}))
	var out systemtest.Output
	err := load.Run(ctx, load.Options{URL: url, Orders: 6, Concurrency: 1, Out: &out})
	if err == nil || err.Error() != "load: interrupted after 2 of 6 orders" {
		t.Errorf("got %v", err)
	}
	if got := out.String(); !strings.HasPrefix(got, "0 of 6 orders failed\ninterrupted: 0 orders were placed and have not ended yet\n2 orders in ") {
		t.Errorf("output: %s", got)
	}
}

// A run without a single success prints no numbers.
func TestDeadShop(t *testing.T) {
	t.Parallel()
	shop := httptest.NewServer(http.NotFoundHandler())
	shop.Close()
	for _, burst := range []bool{false, true} {
		var out systemtest.Output
		err := load.Run(context.Background(), load.Options{URL: shop.URL, Orders: 6, Concurrency: 2, Burst: burst, Out: &out})
		if err == nil || !strings.Contains(err.Error(), "all 6 orders failed") || out.String() != "" {
			t.Errorf("got %v, output %s", err, &out)
		}
	}
}

func proxy(t *testing.T, to string) http.Handler {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return httputil.NewSingleHostReverseProxy(u)
}
