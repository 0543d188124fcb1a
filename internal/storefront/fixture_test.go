package storefront_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// open runs orders with its pages, and no other service.
func open(tb testing.TB) *shoptest.Shop {
	tb.Helper()
	traces := trail.NewStore(0)
	return shoptest.Open(tb, systemtest.Server(tb).Connect, storefront.Service(traces, nil).Wire, traces)
}

// openTraced runs orders with its pages on a source of traces.
func openTraced(tb testing.TB, traces trail.Source) *shoptest.Shop {
	tb.Helper()
	return shoptest.Open(tb, systemtest.Server(tb).Connect, storefront.Service(traces, nil).Wire)
}

// everything runs the whole system.
func everything(tb testing.TB, change ...func(*systemtest.Config)) *shoptest.Shop {
	tb.Helper()
	return shoptest.Of(systemtest.Start(tb, change...))
}

// browser returns the header that a browser sends when its user follows a link.
func browser(more ...string) http.Header {
	h := http.Header{"Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// submitted returns the header that a browser sends with a form of the page's own.
func submitted() http.Header {
	return browser("Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
}

// MustVisit gets a page as a browser does.
func MustVisit(tb testing.TB, s *shoptest.Shop, path string) shoptest.Answer {
	tb.Helper()
	return s.MustDo(tb, http.MethodGet, path, "", browser())
}

// MustSubmit sends a form and returns the answer, without following a redirect.
func MustSubmit(tb testing.TB, s *shoptest.Shop, path string, form url.Values, header http.Header) shoptest.Answer {
	tb.Helper()
	s.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s.MustDo(tb, http.MethodPost, path, form.Encode(), header)
}

// wantRedirect fails the test if an answer does not lead to an order's page. It returns
// the order's id.
func wantRedirect(tb testing.TB, a shoptest.Answer) string {
	tb.Helper()
	a.WantStatus(tb, http.StatusSeeOther)
	id, ok := strings.CutPrefix(a.Header.Get("Location"), "/orders/")
	if !ok || !event.IsOrderID(id) {
		tb.Fatalf("Location = %q, want an order's page", a.Header.Get("Location"))
	}
	return id
}

// wantPage fails the test if an answer is not a page that shows each of these texts.
func wantPage(tb testing.TB, a shoptest.Answer, status int, shows ...string) string {
	tb.Helper()
	a.WantStatus(tb, status)
	if got, want := a.Header.Get("Content-Type"), "text/html; charset=utf-8"; got != want {
		tb.Errorf("Content-Type = %q, want %q", got, want)
	}
	if policy := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		tb.Errorf("Content-Security-Policy = %q", policy)
	}
	page := string(a.Content)
	if inline := regexp.MustCompile(`<style|<script[^>]*>[^<]|\s(style|on[a-z]+)="`).FindString(page); inline != "" {
		tb.Errorf("the page has something inline that its policy forbids: %s", inline)
	}
	if outside := regexp.MustCompile(`(src|action)="(https?:)?//[^"]*"|<link[^>]*href="(https?:)?//`).FindAllString(page, -1); len(outside) > 0 {
		tb.Errorf("the page loads something from elsewhere: %s", outside)
	}
	if plural := regexp.MustCompile(`\b1 (more )?(attributes|events|links|orders|spans|traces)\b`).FindString(page); plural != "" {
		tb.Errorf("the page has %q", plural)
	}
	for _, text := range shows {
		if !strings.Contains(html.UnescapeString(page), text) {
			tb.Errorf("the page does not show %q", text)
		}
	}
	return page
}
