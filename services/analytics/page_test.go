package analytics

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/web"
)

var afternoon = time.Date(2026, 1, 2, 15, 30, 20, 0, time.UTC)

// rendered returns the page that shows c.
func rendered(t *testing.T, c checkpoint) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := (web.Site{Shop: "/"}).Write(w, httptest.NewRequest(http.MethodGet, "/analytics", nil), http.StatusOK, page(c, afternoon)); err != nil {
		t.Fatal(err)
	}
	if size := w.Body.Len(); size > 90_000 { // with 60 kB of assets: 150 kB at most
		t.Errorf("the page has %d bytes", size)
	}
	return html.UnescapeString(w.Body.String())
}

func TestPage(t *testing.T) {
	t.Parallel()
	c := newCheckpoint()
	c.AsOf, c.Orders = 99, Orders{Created: 1234, Shipped: 1000, Cancelled: 200, Open: 34}
	c.Revenue.Amount = 1234567
	c.Units = map[string]int64{"COMPASS": 30, `<b>"&`: 15}
	c.Reasons = map[string]int64{"out_of_stock": 7, "customer": 2}
	c.Minutes = []Minute{{Minute: afternoon.Add(-170 * time.Minute).Truncate(time.Minute), Created: 5}, {Minute: afternoon.Truncate(time.Minute), Created: 9, Shipped: 4, Cancelled: 2, Revenue: 500}}
	for range 100 {
		c.ToParcel.Record(20 * time.Millisecond)
	}
	c.ToParcel.Record(900 * time.Millisecond)
	for name, page := range map[string]struct {
		html  string
		wants []string
	}{
		"Many": {rendered(t, c), []string{
			"<dd>1,234</dd>", "12,345.67 EUR", "out of stock", "customer asked", "15:30: 9 placed, 4 shipped, 2 cancelled", "5.00 EUR", "COMPASS",
			`width="50.00%"`, "p50", "p99", ": 100 orders", ": 1 order<", `data-refresh="2000"`,
		}},
		"None": {rendered(t, newCheckpoint()), []string{"No parcel has left yet.", "None yet.", "<dd>0</dd>"}},
	} {
		for _, want := range page.wants {
			if !strings.Contains(page.html, want) {
				t.Errorf("%s: the page does not show %s", name, want)
			}
		}
		if strings.Contains(page.html, "style=") {
			t.Errorf("%s: the page has a style that its policy forbids", name)
		}
	}
}

// The charts have a column for each minute up to now, also for those without an event.
func TestLastMinutes(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time {
		return afternoon.Add(time.Duration(minutes) * time.Minute).Truncate(time.Minute)
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
		{[]int{-5, 2}, minutesMin, 2}, // the clock of the stream is ahead
		{[]int{-170}, minutesMost, 0},
	} {
		t.Run(fmt.Sprint(tc.kept), func(t *testing.T) {
			var kept []Minute
			counted := map[time.Time]int64{}
			for _, m := range tc.kept {
				kept = append(kept, Minute{Minute: at(m), Created: 1})
				counted[at(m)] = 1
			}
			all := lastMinutes(kept, afternoon)
			if len(all) != tc.n {
				t.Fatalf("%d minutes, want %d", len(all), tc.n)
			}
			for i, m := range all {
				if want := at(tc.last - tc.n + 1 + i); !m.Minute.Equal(want) || m.Created != counted[want] {
					t.Errorf("minute %d is %+v, want %v with %d orders", i, m, want, counted[want])
				}
			}
		})
	}
}
