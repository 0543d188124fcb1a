package load_test

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/test/systemtest"
)

// Steady places an order of each scenario in turn until its context ends, also if the
// shop does not answer the first request.
func TestSteady(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, systemtest.Deadline(5*time.Second))
	shop := proxy(t, sys.URL)
	var asked atomic.Int64
	url := systemtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			panic(http.ErrAbortHandler) // the customer sees a broken connection
		}
		shop.ServeHTTP(w, r)
	}))
	ctx, stop := context.WithCancel(context.Background())
	var out systemtest.Output
	done := make(chan error, 1)
	go func() { done <- load.Steady(ctx, load.Options{URL: url, Every: 50 * time.Millisecond, Out: &out}) }()

	line := regexp.MustCompile(`(?m)^([a-z-]+): order [0-9a-f-]{36}$`)
	var want []string
	for _, sc := range demo.Scenarios() {
		want = append(want, sc.Name)
	}
	slices.Sort(want)
	systemtest.Until(t, "each scenario is placed", func() bool {
		var placed []string
		for _, m := range line.FindAllStringSubmatch(out.String(), -1) {
			placed = append(placed, m[1])
		}
		slices.Sort(placed)
		return slices.Equal(slices.Compact(placed), want)
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := out.String(); !strings.Contains(got, "the shop does not answer, trying again every 1s: ") {
		t.Errorf("the wait is silent: %s", got)
	}
	if !regexp.MustCompile(`\n0 orders failed\n\d+ orders in [\d.]+ s\n\d+ requests? repeated\n$`).MatchString(out.String()) {
		t.Errorf("no numbers at the end: %s", &out)
	}
	if err := load.Steady(context.Background(), load.Options{URL: url, Out: &out}); err == nil {
		t.Error("Steady accepts no time between the orders")
	}
}

// Steady returns an error if the shop accepted no order, with the reason.
func TestSteadyInVain(t *testing.T) {
	t.Parallel()
	url := systemtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "closed", http.StatusForbidden) }))
	ctx, stop := context.WithCancel(context.Background())
	var out systemtest.Output
	done := make(chan error, 1)
	go func() { done <- load.Steady(ctx, load.Options{URL: url, Every: time.Millisecond, Out: &out}) }()
	systemtest.Until(t, "an order is refused", func() bool { return strings.Contains(out.String(), "not accepted") })
	stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "accepted no order") || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
}
