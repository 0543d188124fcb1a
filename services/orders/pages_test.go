package orders_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// browser is what a browser says of itself when a reader follows a link.
func browser(more ...string) http.Header {
	h := http.Header{"Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// submitted is what it says when they send a form of the page's own.
func submitted() http.Header {
	return browser("Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
}

// wantPage checks that an answer is a page that shows each of these texts.
func wantPage(tb testing.TB, a answer, status int, shows ...string) string {
	tb.Helper()
	wantStatus(tb, a, status)
	if got, want := a.Header.Get("Content-Type"), "text/html; charset=utf-8"; got != want {
		tb.Errorf("Content-Type = %q, want %q", got, want)
	}
	if policy := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		tb.Errorf("Content-Security-Policy = %q", policy)
	}
	page := string(a.body)
	if inline := regexp.MustCompile(`<style|<script[^>]*>[^<]|\s(style|on[a-z]+)="`).FindString(page); inline != "" {
		tb.Errorf("the page has something inline that its policy forbids: %s", inline)
	}
	if outside := regexp.MustCompile(`(src|action)="(https?:)?//[^"]*"|<link[^>]*href="(https?:)?//`).FindAllString(page, -1); len(outside) > 0 {
		tb.Errorf("the page needs something from elsewhere: %s", outside)
	}
	for _, text := range shows {
		if !strings.Contains(html.UnescapeString(page), text) {
			tb.Errorf("the page does not show %q", text)
		}
	}
	return page
}

// MustSubmit sends a form and returns the answer, not what it redirects to.
func (s *shop) MustSubmit(tb testing.TB, path string, form url.Values, header http.Header) answer {
	tb.Helper()
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s.MustDo(tb, http.MethodPost, path, form.Encode(), header)
}

// wantRedirect checks that an answer leads to an order's page, and returns its id.
func wantRedirect(tb testing.TB, a answer) string {
	tb.Helper()
	wantStatus(tb, a, http.StatusSeeOther)
	id, ok := strings.CutPrefix(a.Header.Get("Location"), "/orders/")
	if !ok || !event.IsOrderID(id) {
		tb.Fatalf("Location = %q, want an order's page", a.Header.Get("Location"))
	}
	return id
}

// everything runs the whole system, with the shop as one sees it in a browser.
func everything(tb testing.TB, change ...func(*app.Config)) *shop {
	tb.Helper()
	sys := systemtest.Start(tb, change...)
	return &shop{url: sys.URL, client: sys.Shop.Client}
}

func form(change ...string) url.Values {
	f := url.Values{
		"name": {"Robin Example"}, "email": {"robin@example.com"}, "address": {"1 Trailhead Way"}, "token": {"tok_ok"},
		"quantity-TRAIL-MAP": {"2"}, "quantity-COMPASS": {""}, "quantity-HEADLAMP": {" 0 "},
	}
	for i := 0; i < len(change); i += 2 {
		f.Set(change[i], change[i+1])
	}
	return f
}

// The shop's page has all that there is, without a script.
func TestShopPage(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	var page string
	systemtest.Until(t, "the order is listed", func() bool {
		page = wantPage(t, s.MustDo(t, http.MethodGet, "/", "", browser()), http.StatusOK)
		return strings.Contains(page, "/orders/"+placed.ID)
	})
	for _, sc := range scenario.All() {
		if !strings.Contains(page, `action="/scenarios/`+sc.Name+`"`) {
			t.Errorf("there is no button for %s", sc.Name)
		}
	}
	for _, want := range []string{
		`action="/place"`, `href="/orders/` + placed.ID + `/trail"`, `<dt>Placed</dt><dd>1</dd>`, `<dt>Open now</dt><dd>1</dd>`,
		`id="load-start"`, `data-feed="/events"`, `SOLD-OUT`, `lang="en"`, `<main`, `<nav aria-label=`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, label := range regexp.MustCompile(`<(?:input|select) id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `for="`+label[1]+`"`) {
			t.Errorf("field %s has no label", label[1])
		}
	}
}

func TestPlaceForm(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := wantRedirect(t, s.MustSubmit(t, "/place", form("key", "twice"), submitted()))
	got := MustOrder(t, s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil))
	if len(got.Items) != 1 || got.Items[0].SKU != "TRAIL-MAP" || got.Items[0].Quantity != 2 {
		t.Errorf("items = %+v, want two trail maps", got.Items)
	}
	if again := wantRedirect(t, s.MustSubmit(t, "/place", form("key", "twice"), submitted())); again != id {
		t.Errorf("the same form, sent twice, placed orders %s and %s", id, again)
	}
	for _, tc := range []struct {
		name   string
		form   url.Values
		status int
		shows  []string
	}{
		{"Nothing", form("quantity-TRAIL-MAP", "0"), http.StatusUnprocessableEntity, []string{"order at least one item"}},
		{"NoNumber", form("quantity-COMPASS", `<b>"`), http.StatusUnprocessableEntity, []string{"must be a number", `value="<b>""`}},
		{"TooMany", form("quantity-HEADLAMP", "1001"), http.StatusUnprocessableEntity, []string{"HEADLAMP is 1001", `id="quantity-HEADLAMP"`, `aria-describedby="fault-quantity-HEADLAMP"`}},
		{"NoName", form("name", " "), http.StatusUnprocessableEntity, []string{"The name is missing", `aria-describedby="fault-name"`}},
		{"BadEmail", form("email", "robin"), http.StatusUnprocessableEntity, []string{"is not a mail address"}},
		{"NoAddress", form("address", ""), http.StatusUnprocessableEntity, []string{`aria-describedby="fault-address"`}},
		{"UsedKey", form("key", "twice", "name", "Kim"), http.StatusUnprocessableEntity, []string{"was used within the last hour", `value="Kim"`}},
		{"BadKey", form("key", "two words"), http.StatusBadRequest, []string{"visible ASCII"}},
		{"TooLarge", form("name", strings.Repeat("x", 70_000)), http.StatusBadRequest, []string{"65536 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantPage(t, s.MustSubmit(t, "/place", tc.form, submitted()), tc.status, tc.shows...)
		})
	}
}

// No page from elsewhere can place or cancel orders; programs can.
func TestCrossSite(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	before := s.MustLast(t)
	for _, evil := range []http.Header{
		browser("Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site"),
		browser("Content-Type", "application/x-www-form-urlencoded", "Origin", "https://elsewhere.example"),
		browser("Content-Type", "application/x-www-form-urlencoded", "Origin", "null"),
	} {
		for _, path := range []string{"/place", "/scenarios/happy", "/orders/" + placed.ID + "/cancel"} {
			wantPage(t, s.MustSubmit(t, path, form(), evil), http.StatusForbidden, "a page from elsewhere")
		}
	}
	evil := jsonHeader("Sec-Fetch-Site", "cross-site")
	wantProblem(t, s.MustDo(t, http.MethodPost, "/orders", body(nil), evil), http.StatusForbidden)
	wantProblem(t, s.MustDo(t, http.MethodDelete, "/orders/"+placed.ID, "", evil), http.StatusForbidden)
	if after := s.MustLast(t); after != before {
		t.Errorf("%d events were stored", after-before)
	}
	wantRedirect(t, s.MustSubmit(t, "/scenarios/happy", nil, submitted()))
	wantRedirect(t, s.MustSubmit(t, "/scenarios/happy", nil, http.Header{})) // curl
}

// Each scenario's button leads to an order, whose page comes to show the expected
// end, its mails included.
func TestScenarioForms(t *testing.T) {
	t.Parallel()
	s := everything(t, systemtest.Deadline(0)) // the default's: nobody waits for it here
	for name, end := range map[string]struct {
		state string
		shows []string
	}{
		"happy":         {orders.StateShipped, []string{"Time to parcel", "The parcel is on its way", "Your order is on its way", "to r…@example.com", "notify.shipped."}},
		"undeliverable": {orders.StateCancelled, []string{"undeliverable, refunded", "The money is given back", "Your money is on its way back"}},
		"cancelled":     {orders.StateCancelled, []string{"The customer asks for the order's end", "customer asked", "you asked us to"}},
	} {
		id := wantRedirect(t, s.MustSubmit(t, "/scenarios/"+name, nil, submitted()))
		var page string
		systemtest.Until(t, name+" comes to its end", func() bool {
			page = html.UnescapeString(wantPage(t, s.MustDo(t, http.MethodGet, "/orders/"+id, "", browser()), http.StatusOK, id))
			for _, text := range end.shows {
				if !strings.Contains(page, text) {
					return false
				}
			}
			return strings.Contains(page, "state-"+end.state)
		})
		if strings.Contains(page, `id="cancel"`) {
			t.Errorf("%s: there is a cancel button", name)
		}
		if !strings.Contains(page, `href="/orders/`+id+`/trail#span-`) {
			t.Errorf("%s: no event leads to its span", name)
		}
	}
	wantPage(t, s.MustSubmit(t, "/scenarios/nothing", nil, submitted()), http.StatusNotFound, `there is no scenario "nothing"`)
}

func TestCancelForm(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	page := wantPage(t, s.MustDo(t, http.MethodGet, "/orders/"+placed.ID, "", browser()), http.StatusOK, "None yet.")
	if !strings.Contains(page, `action="/orders/`+placed.ID+`/cancel"`) {
		t.Error("there is no cancel button")
	}
	if id := wantRedirect(t, s.MustSubmit(t, "/orders/"+placed.ID+"/cancel", nil, submitted())); id != placed.ID {
		t.Errorf("leads to order %s, want %s", id, placed.ID)
	}
	if got := MustOrder(t, s.MustDo(t, http.MethodGet, "/orders/"+placed.ID, "", nil)); got.State != orders.StateCancelling {
		t.Errorf("state = %q, want %q", got.State, orders.StateCancelling)
	}
	s.MustPublish(t, event.FulfillmentShipped, event.Conclusion{OrderKey: event.OrderKey{OrderID: placed.ID}})
	wantPage(t, s.MustSubmit(t, "/orders/"+placed.ID+"/cancel", nil, submitted()), http.StatusConflict, "can no longer be cancelled")
	wantPage(t, s.MustSubmit(t, "/orders/"+unknown+"/cancel", nil, submitted()), http.StatusNotFound)
	wantPage(t, s.MustSubmit(t, "/orders/nonsense/cancel", nil, submitted()), http.StatusBadRequest)
}

// JSON is the default; a browser gets a page, also of what went wrong.
func TestNegotiation(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	for _, accept := range []string{"", "*/*", "application/json", "application/json, text/html"} {
		a := s.MustDo(t, http.MethodGet, "/orders/"+placed.ID, "", http.Header{"Accept": {accept}})
		wantStatus(t, a, http.StatusOK)
		MustOrder(t, a)
		if got := a.Header.Get("Vary"); got != "Accept" {
			t.Errorf("Vary = %q, want Accept", got)
		}
	}
	wantPage(t, s.MustDo(t, http.MethodGet, "/orders/"+placed.ID, "", browser()), http.StatusOK, placed.ID)
	wantPage(t, s.MustDo(t, http.MethodGet, "/orders/"+unknown, "", browser()), http.StatusNotFound, "there is no such order")
	wantPage(t, s.MustDo(t, http.MethodGet, "/orders/nonsense", "", browser()), http.StatusBadRequest, "is not an order id")
	wantPage(t, s.MustDo(t, http.MethodGet, "/<script>", "", browser()), http.StatusNotFound, "nothing at this path")
	wantPage(t, s.MustDo(t, http.MethodPut, "/orders", "", browser("Sec-Fetch-Site", "same-origin")), http.StatusMethodNotAllowed)
}

// The page's parts come from the address that it names.
func TestPageAssets(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := s.MustDo(t, http.MethodGet, "/", "", browser())
	parts := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(string(a.body), -1)
	if len(parts) != 3 {
		t.Fatalf("the page has the parts %v, want a style, a script and an icon", parts)
	}
	for _, p := range parts {
		wantStatus(t, s.MustDo(t, http.MethodGet, p[1], "", nil), http.StatusOK)
	}
	wantProblem(t, s.MustDo(t, http.MethodGet, "/nothing", "", nil), http.StatusNotFound)
}
