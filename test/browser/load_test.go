package browser

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

// busy is a proxy before the shop. It answers some requests as a shop that is overloaded
// or unavailable, and breaks some connections.
type busy struct {
	shop http.Handler

	mu     sync.Mutex
	placed int                    // requests that place an order
	looked int                    // and that look at one
	asked  map[string][]time.Time // when, by key
	broken string                 // the key whose connections break
	mended bool                   // they do no more
}

func (s *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	status, later := 0, true
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/orders":
		s.placed++
		key := r.Header.Get("Idempotency-Key")
		s.asked[key] = append(s.asked[key], time.Now())
		switch n := s.placed; {
		case n <= 8:
			status = http.StatusTooManyRequests
		case n == 20:
			status, later = http.StatusServiceUnavailable, false
		case n == 30:
			s.broken = key
		}
		if key == s.broken && !s.mended {
			status = -1
		}
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/orders/") && r.Header.Get("Accept") == "*/*":
		if s.looked++; s.looked <= 4 {
			status = http.StatusServiceUnavailable
		}
	}
	s.mu.Unlock()
	switch {
	case status == 0:
		s.shop.ServeHTTP(w, r)
		return
	case status < 0:
		panic(http.ErrAbortHandler) // the connection breaks
	case later:
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"about:blank","status":%d,"detail":"closed for good"}`, status)
}

// The load button's customers come back after Retry-After, with the same order. The page
// shows the orders that are refused for good.
func TestLoadIsRefused(t *testing.T) {
	full.Only(t)
	t.Parallel()
	shop := &busy{asked: map[string][]time.Time{}}
	b := open(t, func(cfg *systemtest.Config) {
		cfg.Wire = map[string]service.Wire{orders.Name: func(rt *service.Runtime) (service.Part, error) {
			part, err := storefront.Service(nil, nil).Wire(rt)
			shop.shop = part.HTTP
			part.HTTP = shop
			return part, err
		}}
	})
	b.expect("status of 429", "status of 503", "ERR_EMPTY_RESPONSE", "ERR_HTTP2_PROTOCOL_ERROR")
	b.visit("/")
	b.run(chromedp.SetValue(chromedp.CSS("#load-count"), "100"), chromedp.Click(chromedp.CSS("#load-start")))
	b.until("the page shows that it was asked to come back later", `document.getElementById("load-said").textContent.includes("0 of 100 done, asked to come back later 4 times")`)
	// The browser repeats such a request itself at first, which the page does not notice.
	b.until("the page shows that it got no answer", `document.getElementById("load-said").textContent.includes("no answer")`)
	shop.mu.Lock()
	shop.mended = true
	shop.mu.Unlock()
	b.until("all are done", `document.getElementById("load-said").textContent.startsWith("100 of 100 done, 99 shipped")`)
	said := eval[string](b, `document.getElementById("load-said").textContent`)
	for _, want := range []string{"1 failed: closed for good", "asked to come back later 12 times", "no answer "} {
		if !strings.Contains(said, want) {
			t.Errorf("the page shows %q, want %q in it", said, want)
		}
	}
	b.until("each order is placed once", `document.querySelector("#counts dd").textContent === "99"`)
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if len(shop.asked) != 100 {
		t.Errorf("%d orders were asked for, want 100", len(shop.asked))
	}
	for key, times := range shop.asked {
		for i := 1; i < len(times); i++ {
			if early := times[i].Sub(times[i-1]); early < 900*time.Millisecond && key != shop.broken {
				t.Errorf("order %s is asked for again after %v, want a second", key, early)
			}
		}
	}
}
