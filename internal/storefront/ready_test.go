package storefront_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// While NATS is away, every page is the error that /readyz reports and tries again by
// itself, and no feed stays open. When NATS is back, all pages are shown again.
func TestPagesWithoutNATS(t *testing.T) {
	t.Parallel()
	store := systemtest.NewStore(t)
	s := shoptest.Of(systemtest.StartOn(t, store.Connect))
	id := s.MustPlace(t).ID
	s.AwaitListed(t, id)
	feeds := []*shoptest.Feed{
		shoptest.Follow(t, s.URL+"/events", ""), shoptest.Follow(t, s.URL+"/orders/"+id+"/events", ""),
	}
	paths := []string{"/", "/orders/" + id, "/orders/" + id + "/trail", "/services", "/analytics"}
	for _, path := range paths {
		page := wantPage(t, MustVisit(t, s, path), http.StatusOK)
		if path != "/analytics" && !strings.Contains(page, `data-feed="/`) || strings.Contains(page, "http-equiv") {
			t.Errorf("%s does not follow the shop", path)
		}
	}
	store.Change(t, func(string) { // while the server is stopped
		var reason string
		// A check that is under way when the connection breaks has another reason.
		systemtest.Until(t, "the shop knows that it has no connection", func() bool {
			a := s.MustGet(t, "/readyz")
			reason = strings.TrimSpace(string(a.Content))
			return a.StatusCode == http.StatusServiceUnavailable && strings.Contains(reason, "no connection to NATS")
		})
		for _, path := range paths {
			var a shoptest.Answer
			systemtest.Until(t, path+" is not ready", func() bool { // analytics has a connection of its own
				a = MustVisit(t, s, path)
				return a.StatusCode == http.StatusServiceUnavailable
			})
			page := html.UnescapeString(wantPage(t, a, http.StatusServiceUnavailable, `data-refresh="2000"`, `<meta http-equiv="refresh" content="5">`))
			if a.Header.Get("Retry-After") == "" || !strings.Contains(page, `<p id="detail">`+reason+`</p>`) {
				t.Errorf("%s: Retry-After %q, want one and the reason %q: %s", path, a.Header.Get("Retry-After"), reason, page)
			}
		}
		wantPage(t, MustSubmit(t, s, "/orders/"+id+"/cancel", nil, submitted()), http.StatusServiceUnavailable, `data-refresh="0"`)
		for _, feed := range feeds {
			for ok := true; ok; {
				_, ok = feed.Next(t, new(any))
			}
		}
		for _, path := range []string{"/events", "/orders/" + id + "/events"} {
			s.MustGet(t, path).WantProblem(t, http.StatusServiceUnavailable, reason)
		}
	})
	for _, path := range paths {
		systemtest.Until(t, path+" is shown again", func() bool { return MustVisit(t, s, path).StatusCode == http.StatusOK })
	}
	systemtest.Until(t, "there are feeds again", func() bool {
		feed := shoptest.Follow(t, s.URL+"/events", "")
		defer feed.Leave()
		return feed.Answer.StatusCode == http.StatusOK
	})
}

// A service that waits for NATS since its start has the same page, with its style.
func TestPageBeforeNATS(t *testing.T) {
	t.Parallel()
	waiting := storefront.Service(nil, nil).Waiting(service.Settings{})
	get := func(path string, header http.Header) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
		r.Header = header
		waiting.ServeHTTP(w, r)
		return w
	}
	if a := get("/", browser()); a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body.String(), `<p id="detail">not ready: waiting for NATS</p>`) {
		t.Errorf("GET /: %d %s", a.Code, a.Body)
	}
	if a := get("/orders", nil); a.Code != http.StatusServiceUnavailable || a.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("GET /orders: %d %s", a.Code, a.Header())
	}
	style, err := web.AssetURL("app.css")
	if err != nil {
		t.Fatal(err)
	}
	if a := get(style, browser()); a.Code != http.StatusOK {
		t.Errorf("GET %s: %d", style, a.Code)
	}
}

// A form that is requested again as a page leads to the page that has it. A page that
// shows a form's error follows the shop.
func TestFormsAsPages(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, want := range map[string]string{"/place": "/", "/scenarios/happy": "/", "/orders/" + shoptest.Unknown + "/cancel": "/orders/" + shoptest.Unknown} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := s.MustDo(t, method, path, "", browser())
			if got := a.Header.Get("Location"); a.StatusCode != http.StatusSeeOther || got != want {
				t.Errorf("%s %s: %d to %q, want %d to %q", method, path, a.StatusCode, got, http.StatusSeeOther, want)
			}
		}
	}
	wantPage(t, MustSubmit(t, s, "/place", form("name", ""), submitted()), http.StatusUnprocessableEntity, `data-self="/"`, `data-feed="/events"`)
}
