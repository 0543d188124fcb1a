package load_test

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
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
			if got, want := out.String(), " 0 failed; 6 requests repeated\n"; !strings.HasPrefix(got, "6 orders in ") || !strings.HasSuffix(got, want) {
				t.Errorf("output = %q, want it to end in %q", got, want)
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
		b.shop.ServeHTTP(&unseen{header: http.Header{}}, r)
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// unseen drops an answer.
type unseen struct{ header http.Header }

func (u *unseen) Header() http.Header         { return u.header }
func (u *unseen) Write(b []byte) (int, error) { return len(b), nil }
func (u *unseen) WriteHeader(int)             {}

func proxy(t *testing.T, to string) http.Handler {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return httputil.NewSingleHostReverseProxy(u)
}
