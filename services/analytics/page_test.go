package analytics

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
)

// rendered is the page of an aggregate.
func rendered(t *testing.T, a Aggregate, now time.Time) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := (web.Site{Shop: "/"}).Write(w, httptest.NewRequest(http.MethodGet, "/analytics", nil), http.StatusOK, page(a, now)); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 90_000 { // with 60 kB of assets: 150 kB at most
		t.Errorf("the page has %d bytes", len(body))
	}
	return html.UnescapeString(string(body))
}

func TestPage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 15, 30, 20, 0, time.UTC)
	a := newAggregate()
	a.AsOf, a.Orders = 99, Orders{Created: 1234, Shipped: 1000, Cancelled: 200, Open: 34}
	a.Revenue.Amount = 1234567
	a.Units = map[string]int64{"COMPASS": 30, `<b>"&`: 15}
	a.Reasons = map[string]int64{"out_of_stock": 7}
	a.Minutes = []Minute{{Minute: now.Add(-170 * time.Minute).Truncate(time.Minute), Created: 5}, {Minute: now.Truncate(time.Minute), Created: 9, Shipped: 4, Cancelled: 2, Revenue: 500}}
	for range 100 {
		a.ToParcel.record(20 * time.Millisecond)
	}
	a.ToParcel.record(900 * time.Millisecond)
	got := rendered(t, a, now)
	for _, want := range []string{
		"<dd>1,234</dd>", "12,345.67 EUR", "out of stock", "15:30: 9 placed, 4 shipped, 2 cancelled", "5.00 EUR", "COMPASS",
		`width="50.00%"`, "p50", "p99", ": 100 orders", ": 1 orders", `data-refresh="2000"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not show %s", want)
		}
	}
	if strings.Contains(got, "style=") {
		t.Error("the page has a style that its policy forbids")
	}

	empty := rendered(t, newAggregate(), now)
	for _, want := range []string{"No parcel has left yet.", "None yet.", "<dd>0</dd>"} {
		if !strings.Contains(empty, want) {
			t.Errorf("the page of no orders does not show %q", want)
		}
	}
}

// The charts have a column for each minute up to now, those without an event too.
func TestLastMinutes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 15, 30, 20, 0, time.UTC)
	at := func(minutes int) time.Time {
		return now.Add(time.Duration(minutes) * time.Minute).Truncate(time.Minute)
	}
	for _, tc := range []struct {
		kept []int // minutes from now
		n    int
		last int
	}{
		{nil, minutesMin, 0},
		{[]int{0}, minutesMin, 0},
		{[]int{-20, -3}, 21, 0},
		{[]int{-170, -60, -59, 0}, minutesMost, 0},
		{[]int{-5, 2}, minutesMin, 2}, // the stream's clock is ahead
		{[]int{-170}, minutesMost, 0},
	} {
		t.Run(fmt.Sprint(tc.kept), func(t *testing.T) {
			var kept []Minute
			want := 0
			for _, m := range tc.kept {
				kept = append(kept, Minute{Minute: at(m), Created: 1})
				if m > tc.last-tc.n {
					want++
				}
			}
			all := lastMinutes(kept, now)
			if len(all) != tc.n || !all[len(all)-1].Minute.Equal(at(tc.last)) {
				t.Fatalf("%d minutes up to %v, want %d up to %v", len(all), all[len(all)-1].Minute, tc.n, at(tc.last))
			}
			created := 0
			for i, m := range all {
				created += int(m.Created)
				if i > 0 && m.Minute.Sub(all[i-1].Minute) != time.Minute {
					t.Errorf("%v comes after %v", m.Minute, all[i-1].Minute)
				}
			}
			if created != want {
				t.Errorf("%d minutes have orders, want %d", created, want)
			}
		})
	}
}

// A histogram's columns hold all that its buckets do, each where it belongs.
func TestParcels(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, time.Millisecond, 1090 * time.Microsecond, 1091 * time.Microsecond, 7 * time.Millisecond, 3 * time.Second, 300 * time.Hour} {
		a := Aggregate{Revenue: event.Money{Currency: "EUR"}}
		a.ToParcel.record(d)
		s := page(a, time.Now()).Data.(shown)
		total := int64(0)
		for _, b := range s.Buckets {
			if total += b.Orders; b.Orders > 0 && (d > b.To || d < b.From) {
				t.Errorf("%v is between %v and %v", d, b.From, b.To)
			}
		}
		if total != 1 {
			t.Errorf("%v: the columns hold %d orders, want 1", d, total)
		}
	}
}
