package analytics_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"sync"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

func euro(cents int64) event.Money { return event.Money{Amount: cents, Currency: "EUR"} }

// The numbers are right, and survive a restart of the service and the deletion of the
// stored checkpoint.
func TestCounts(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 3, "happy", "declined", "sold-out", "undeliverable")
	want := sys.MustAwait(t)

	const parcel, soldOut = 950 + 2490, 950 + 1990
	got := want.Aggregate
	got.AsOf, got.Minutes = 0, nil
	if want := (analytics.Aggregate{
		Orders: analytics.Orders{Created: 12, Shipped: 3, Cancelled: 9}, Revenue: euro(3 * parcel), Refunds: euro(3*soldOut + 3*parcel),
		Units:   map[string]int64{"TRAIL-MAP": 3, "COMPASS": 3},
		Reasons: map[string]int64{event.ReasonPaymentDeclined: 3, event.ReasonOutOfStock: 3, event.ReasonUndeliverable: 3},
		Mails:   12 + 12 + 6, // received, shipped or cancelled, refunded
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("numbers = %+v, want %+v", got, want)
	}
	for name, between := range map[string]func(){"Restarted": func() {}, "DeletedWhileStopped": func() { sys.MustPut(t, "") }} {
		t.Run(name, func(t *testing.T) {
			sys.MustRestart(t, between)
			if got := sys.MustAwait(t); got.JSON != want.JSON {
				t.Errorf("numbers = %s, want %s", got.JSON, want.JSON)
			}
		})
	}
	t.Run("DeletedWhileRunning", func(t *testing.T) {
		sys.MustPut(t, "")
		sys.MustPlay(t, 1, "happy") // the service notices the deletion when it stores
		more := sys.MustAwait(t)
		if more.Orders != (analytics.Orders{Created: 13, Shipped: 4, Cancelled: 9}) || more.Revenue != euro(4*parcel) {
			t.Errorf("rebuilt with one more: %s, before: %s", more.JSON, want.JSON)
		}
	})
	t.Run("OwnAddress", func(t *testing.T) { checkOwnAddress(t, sys.Latest(analytics.Name).HTTP) })
}

// Under its own address analytics serves its page with all parts. A client that is
// not a browser gets JSON.
func checkOwnAddress(t *testing.T, api http.Handler) {
	get := func(path, accept string, code int, header, want string) string {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept", accept)
		api.ServeHTTP(w, r)
		if got := w.Header().Get(header); w.Code != code || want != "" && got != want {
			t.Errorf("GET %s as %q: %d, %s %q, want %d, %q", path, accept, w.Code, header, got, code, want)
		}
		return w.Body.String()
	}
	get("/", "text/html", http.StatusSeeOther, "Location", "/analytics")
	page := get("/analytics", "text/html,*/*;q=0.8", http.StatusOK, "Content-Type", "text/html; charset=utf-8")
	parts := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(parts) != 3 {
		t.Errorf("the page has the parts %v", parts)
	}
	for _, p := range parts {
		get(p[1], "*/*", http.StatusOK, "", "")
	}
	for _, accept := range []string{"", "*/*", "application/json"} {
		get("/analytics", accept, http.StatusOK, "Content-Type", "application/json")
	}
}

// Replicas that count at the same time, one of which is replaced, count each event
// once, and replays find no difference meanwhile.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	sys := start(t, func(cfg *systemtest.Config) { cfg.Replicas = map[string]int{analytics.Name: 2} })
	replaying, stop := context.WithCancel(context.Background())
	var replays sync.WaitGroup
	defer replays.Wait()
	defer stop()
	replays.Go(func() {
		for replaying.Err() == nil {
			if result, err := analytics.Replay(context.Background(), sys.operator); err != nil || len(result.Differences) > 0 {
				t.Errorf("replay while orders are placed: %v, %v", result, err)
			}
		}
	})
	sys.MustPlay(t, 15, "happy", "declined")
	sys.MustRestart(t, func() { sys.MustPlay(t, 10, "happy", "sold-out") })
	sys.MustPlay(t, 5, "happy")
	got := sys.MustAwait(t)
	if got.Orders != (analytics.Orders{Created: 55, Shipped: 30, Cancelled: 25}) || got.Revenue != euro(30*(950+2490)) || got.Mails != 2*55+10 {
		t.Errorf("numbers = %s", got.JSON)
	}
	other := sys.Replica(analytics.Name, 0).HTTP
	systemtest.Until(t, "the other replica shows the same", func() bool { return MustGet(t, other).JSON == got.JSON })
}

// Without NATS the service shows the numbers that it knows.
func TestShownFromMemory(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 1, "happy")
	shown := sys.MustAwait(t)
	systemtest.Until(t, "the service knows that its batches are stored", func() bool { return countLinks(sys) == 6 })
	sys.Latest(analytics.Name).Kill()
	if got := sys.MustShow(t); got.JSON != shown.JSON {
		t.Errorf("without NATS: %s, want %s", got.JSON, shown.JSON)
	}
}

// A replica whose events another one has stored, because its own store failed, is ready.
func TestReadyAfterFailedStore(t *testing.T) {
	t.Parallel()
	sys := start(t)
	sys.MustPlay(t, 1, "happy")
	sys.MustAwait(t)
	takes := func(subject string) {
		t.Helper()
		s, err := sys.JetStream().Stream(t.Context(), "KV_"+stream.AnalyticsBucket)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.Subjects = []string{subject}
		if _, err := sys.JetStream().UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	ready := func() bool { return sys.Latest(analytics.Name).Ready(t.Context()) == nil }
	takes("nothing") // no stream takes the checkpoint
	sys.MustPlay(t, 1, "happy")
	systemtest.Until(t, "the replica cannot store, and is not ready", func() bool { return !ready() })
	systemtest.Settle(t, sys.JetStream(), 2)
	takes("$KV." + stream.AnalyticsBucket + ".>")
	sys.MustReplay(t) // mostly before the replica tries again
	systemtest.Until(t, "the replica is ready", ready)
}
