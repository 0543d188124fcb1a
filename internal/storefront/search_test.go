package storefront_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// The pages of the shop lead to each of the newest hundred orders, and follow the shop.
func TestPaging(t *testing.T) {
	t.Parallel()
	s := open(t)
	wantPage(t, MustVisit(t, s, "/?page=2"), http.StatusOK, "None yet.")
	var placed []string
	for range 105 {
		placed = append(placed, s.MustPlace(t).ID)
	}
	slices.Reverse(placed)
	s.AwaitListed(t, placed[0])
	row := regexp.MustCompile(`id="order-([^"]+)"`)
	var got []string
	next := "/"
	for number := 1; next != ""; number++ {
		page := wantPage(t, MustVisit(t, s, next), http.StatusOK, fmt.Sprintf("%d to %d of the newest 100", 20*number-19, 20*number), `data-feed="/events"`)
		if self := fmt.Sprintf(`data-self="/?page=%d"`, number); number > 1 && !strings.Contains(html.UnescapeString(page), self) {
			t.Errorf("page %d lacks %s", number, self)
		}
		for _, m := range row.FindAllStringSubmatch(page, -1) {
			got = append(got, m[1])
		}
		if newer := strings.Contains(page, fmt.Sprintf(`href="/?page=%d" rel="prev"`, number-1)); newer != (number > 1) {
			t.Errorf("page %d: a link to the newer ones: %t", number, newer)
		}
		next = ""
		if m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(page); m != nil {
			next = m[1]
		}
	}
	if !slices.Equal(got, placed[:100]) {
		t.Errorf("the pages have %d orders, want the newest 100 in order", len(got))
	}
	for _, number := range []string{"0", "-1", "6", "x", "99999999999999999999"} {
		wantPage(t, MustVisit(t, s, "/?page="+number), http.StatusBadRequest, "number from 1 to 5")
	}
}

// The search leads to the page of an order, a trace or a span. Without a result it says
// why, and lets the customer search again.
func TestSearch(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	traceID, spanID := placed.Events[0].TraceID, placed.Events[0].SpanID
	s.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	search := func(s *shoptest.Shop, id string, header http.Header) shoptest.Answer {
		return s.MustDo(t, http.MethodGet, "/search?id="+url.QueryEscape(id), "", header)
	}
	for id, want := range map[string]string{
		placed.ID: "/orders/" + placed.ID, " " + strings.ToUpper(placed.ID) + "\n": "/orders/" + placed.ID,
		traceID: "/trail?trace=" + traceID, spanID: "/trail?span=" + spanID,
	} {
		var a shoptest.Answer
		systemtest.Until(t, "a page is found", func() bool { // a span is stored when it has ended
			a = search(s, id, browser())
			return a.StatusCode == http.StatusSeeOther
		})
		if got := a.Header.Get("Location"); got != want {
			t.Errorf("%q leads to %q, want %q", id, got, want)
		}
		to := MustVisit(t, s, want)
		if to.StatusCode != http.StatusOK && !strings.HasPrefix(to.Header.Get("Location"), "/orders/"+placed.ID+"/trail") {
			t.Errorf("%s: %d to %q", want, to.StatusCode, to.Header.Get("Location"))
		}
	}
	untraced := shoptest.Open(t, systemtest.Server(t).Connect, storefront.Service(nil, nil).Wire)
	for _, tc := range []struct {
		shop   *shoptest.Shop
		id     string
		status int
		says   string
	}{
		{s, shoptest.Unknown, http.StatusNotFound, "there is no such order"},
		{s, strings.Repeat("1", 32), http.StatusNotFound, "no trace with this id is known"},
		{s, strings.Repeat("1", 16), http.StatusNotFound, "no span with this id is known"},
		{s, "", http.StatusBadRequest, "the id is missing"},
		{s, `<b>"`, http.StatusBadRequest, "is not an id"},
		{s, strings.Repeat("g", 32), http.StatusBadRequest, "is not an id"},
		{s, strings.Repeat("1", 5000), http.StatusBadRequest, "is not an id"},
		{untraced, traceID, http.StatusNotImplemented, "set JAEGER_URL"},
	} {
		page := wantPage(t, search(tc.shop, tc.id, browser()), tc.status, tc.says, `action="/search"`)
		if tc.id != "" && !strings.Contains(html.UnescapeString(page), `value="`+tc.id+`"`) {
			t.Errorf("%.40q: the field does not have what was searched for", tc.id)
		}
		search(tc.shop, tc.id, nil).WantProblem(t, tc.status, tc.says)
	}
	wantPage(t, MustVisit(t, s, "/"), http.StatusOK, `action="/search"`)
}
