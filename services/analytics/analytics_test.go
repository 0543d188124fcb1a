package analytics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// The numbers are those of what happened, and stay so whatever becomes of the
// stored value and of the service that counts.
func TestCounts(t *testing.T) {
	t.Parallel()
	sys := start(t)
	MustPlay(t, sys, 3, "happy", "declined", "sold-out", "undeliverable")
	want := sys.MustAwait(t)

	const parcel, soldOut = 950 + 2490, 950 + 1990
	if got, want := want.Orders, (analytics.Orders{Created: 12, Shipped: 3, Cancelled: 9}); got != want {
		t.Errorf("orders = %+v, want %+v", got, want)
	}
	if got, want := want.Revenue, (event.Money{Amount: 3 * parcel, Currency: "EUR"}); got != want {
		t.Errorf("revenue = %+v, want %+v", got, want)
	}
	if got, want := want.Refunds, (event.Money{Amount: 3*soldOut + 3*parcel, Currency: "EUR"}); got != want {
		t.Errorf("refunds = %+v, want %+v", got, want)
	}
	for sku, n := range map[string]int64{"TRAIL-MAP": 3, "COMPASS": 3, "SOLD-OUT": 0} {
		if got := want.Units[sku]; got != n {
			t.Errorf("units of %s = %d, want %d", sku, got, n)
		}
	}
	for _, reason := range []string{event.ReasonPaymentDeclined, event.ReasonOutOfStock, event.ReasonUndeliverable} {
		if got := want.Reasons[reason]; got != 3 {
			t.Errorf("cancelled because of %s = %d, want 3", reason, got)
		}
	}
	if got, want := want.Mails, int64(12+12+6); got != want { // received, shipped or cancelled, refunded
		t.Errorf("mails = %d, want %d", got, want)
	}
	if p := want.Parcels; p.P50 <= 0 || p.P99 < p.P50 || float64(p.Max) < p.P99 {
		t.Errorf("time to parcel = %+v, want 0 < p50 <= p99 <= max", p)
	}
	created := int64(0)
	for _, m := range want.Minutes {
		created += m.Created
	}
	if created != want.Orders.Created {
		t.Errorf("%d orders by minute, want %d", created, want.Orders.Created)
	}

	t.Run("Restarted", func(t *testing.T) {
		sys.MustRestart(t, func() {})
		if got := sys.MustAwait(t); got.String() != want.String() {
			t.Errorf("after a restart: %s, want %s", got, want)
		}
	})
	t.Run("DeletedWhileStopped", func(t *testing.T) {
		sys.MustRestart(t, func() { sys.MustDelete(t) })
		if got := sys.MustAwait(t); got.String() != want.String() {
			t.Errorf("rebuilt: %s, want %s", got, want)
		}
	})
	t.Run("DeletedWhileRunning", func(t *testing.T) {
		sys.MustDelete(t)
		MustPlay(t, sys, 1, "happy") // what shows the service that the value is gone
		more := sys.MustAwait(t)
		if more.Orders.Created != want.Orders.Created+1 || more.Orders.Shipped != want.Orders.Shipped+1 ||
			more.Orders.Cancelled != want.Orders.Cancelled || more.Revenue.Amount != want.Revenue.Amount+parcel {
			t.Errorf("rebuilt with one more: %s, before: %s", more, want)
		}
		sys.MustRestart(t, func() {})
		if got := sys.MustAwait(t); got.String() != more.String() {
			t.Errorf("after a restart: %s, want %s", got, more)
		}
	})
}

// Replicas that count at once, one of which even stops in the middle, count every
// event once.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	sys := start(t, func(cfg *systemtest.Config) { cfg.Replicas = map[string]int{analytics.Name: 2} })
	MustPlay(t, sys, 15, "happy", "declined")
	sys.MustRestart(t, func() { MustPlay(t, sys, 10, "happy", "sold-out") })
	MustPlay(t, sys, 5, "happy")

	got := sys.MustAwait(t)
	if want := (analytics.Orders{Created: 55, Shipped: 30, Cancelled: 25}); got.Orders != want {
		t.Errorf("orders = %+v, want %+v", got.Orders, want)
	}
	if want := int64(30 * (950 + 2490)); got.Revenue.Amount != want {
		t.Errorf("revenue = %d, want %d", got.Revenue.Amount, want)
	}
	if want := int64(2*55 + 10); got.Mails != want {
		t.Errorf("mails = %d, want %d", got.Mails, want)
	}
	for i, api := range sys.apis[1:] {
		systemtest.Until(t, fmt.Sprintf("replica %d shows the same", i+1), func() bool { return MustGet(t, api).String() == got.String() })
	}
}

// Under its own address analytics has all that its page needs; who is no browser
// gets JSON.
func TestOwnAddress(t *testing.T) {
	t.Parallel()
	api := start(t).Replica(analytics.Name, 0).HTTP
	get := func(path, accept string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept", accept)
		api.ServeHTTP(w, r)
		return w
	}
	if w := get("/", "text/html"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/analytics" {
		t.Errorf("GET /: %d to %q, want the page", w.Code, w.Header().Get("Location"))
	}
	page := get("/analytics", "text/html,*/*;q=0.8")
	if got := page.Header().Get("Content-Type"); page.Code != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Fatalf("GET /analytics by a browser: %d, %s", page.Code, got)
	}
	parts := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(parts) != 3 {
		t.Errorf("the page has the parts %v", parts)
	}
	for _, p := range parts {
		if w := get(p[1], "*/*"); w.Code != http.StatusOK {
			t.Errorf("GET %s: %d", p[1], w.Code)
		}
	}
	for _, accept := range []string{"", "*/*", "application/json"} {
		if got := get("/analytics", accept).Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Accept %q gets %q, want JSON", accept, got)
		}
	}
}
