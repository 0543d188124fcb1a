package storefront_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

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

// The shop's page works without a script.
func TestShopPage(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	var page string
	systemtest.Until(t, "the order is listed", func() bool {
		page = wantPage(t, MustVisit(t, s, "/"), http.StatusOK)
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
	id := wantRedirect(t, MustSubmit(t, s, "/place", form("key", "twice"), submitted()))
	got := s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil).MustOrder(t)
	if len(got.Items) != 1 || got.Items[0].SKU != "TRAIL-MAP" || got.Items[0].Quantity != 2 {
		t.Errorf("items = %+v, want two trail maps", got.Items)
	}
	if again := wantRedirect(t, MustSubmit(t, s, "/place", form("key", "twice"), submitted())); again != id {
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
		{"TooLarge", form("name", strings.Repeat("x", 70_000)), http.StatusRequestEntityTooLarge, []string{"65536 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantPage(t, MustSubmit(t, s, "/place", tc.form, submitted()), tc.status, tc.shows...)
		})
	}
}

// A page of another site cannot place or cancel orders; programs can.
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
			wantPage(t, MustSubmit(t, s, path, form(), evil), http.StatusForbidden, "a page of another site")
		}
	}
	evil := shoptest.JSON("Sec-Fetch-Site", "cross-site")
	s.MustDo(t, http.MethodPost, "/orders", shoptest.Body(nil), evil).WantProblem(t, http.StatusForbidden)
	s.MustDo(t, http.MethodDelete, "/orders/"+placed.ID, "", evil).WantProblem(t, http.StatusForbidden)
	if after := s.MustLast(t); after != before {
		t.Errorf("%d events were stored", after-before)
	}
	wantRedirect(t, MustSubmit(t, s, "/scenarios/happy", nil, submitted()))
	wantRedirect(t, MustSubmit(t, s, "/scenarios/happy", nil, http.Header{})) // curl
}

// Each scenario's button leads to an order. Its page shows the expected end and the
// mails.
func TestScenarioForms(t *testing.T) {
	t.Parallel()
	s := everything(t, systemtest.Deadline(0)) // the default: no scenario here waits for it
	for name, end := range map[string]struct {
		state string
		shows []string
	}{
		"happy":         {orders.StateShipped, []string{"Time to parcel", "The parcel is on its way", "Your order is on its way", "to r…@example.com", "notify.shipped."}},
		"undeliverable": {orders.StateCancelled, []string{"undeliverable, refunded", "The money is given back", "Your money is on its way back"}},
		"cancelled":     {orders.StateCancelled, []string{"The customer asks for the order's end", "customer asked", "you asked us to"}},
	} {
		id := wantRedirect(t, MustSubmit(t, s, "/scenarios/"+name, nil, submitted()))
		var page string
		systemtest.Until(t, name+" comes to its end", func() bool {
			page = html.UnescapeString(wantPage(t, MustVisit(t, s, "/orders/"+id), http.StatusOK, id))
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
	wantPage(t, MustSubmit(t, s, "/scenarios/nothing", nil, submitted()), http.StatusNotFound, `unknown scenario "nothing"`)
}

func TestCancelForm(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	page := wantPage(t, MustVisit(t, s, "/orders/"+placed.ID), http.StatusOK, "None yet.")
	if !strings.Contains(page, `action="/orders/`+placed.ID+`/cancel"`) {
		t.Error("there is no cancel button")
	}
	if id := wantRedirect(t, MustSubmit(t, s, "/orders/"+placed.ID+"/cancel", nil, submitted())); id != placed.ID {
		t.Errorf("leads to order %s, want %s", id, placed.ID)
	}
	if got := s.MustDo(t, http.MethodGet, "/orders/"+placed.ID, "", nil).MustOrder(t); got.State != orders.StateCancelling {
		t.Errorf("state = %q, want %q", got.State, orders.StateCancelling)
	}
	s.MustPublish(t, event.FulfillmentShipped, event.Conclusion{OrderKey: event.OrderKey{OrderID: placed.ID}})
	wantPage(t, MustSubmit(t, s, "/orders/"+placed.ID+"/cancel", nil, submitted()), http.StatusConflict, "can no longer be cancelled")
	wantPage(t, MustSubmit(t, s, "/orders/"+shoptest.Unknown+"/cancel", nil, submitted()), http.StatusNotFound)
	wantPage(t, MustSubmit(t, s, "/orders/nonsense/cancel", nil, submitted()), http.StatusBadRequest)
}

// JSON is the default; a browser gets pages, also for errors.
func TestNegotiation(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	for _, accept := range []string{"", "*/*", "application/json", "application/json, text/html"} {
		a := s.MustDo(t, http.MethodGet, "/orders/"+placed.ID, "", http.Header{"Accept": {accept}})
		a.WantStatus(t, http.StatusOK)
		a.MustOrder(t)
		if got := a.Header.Get("Vary"); got != "Accept" {
			t.Errorf("Vary = %q, want Accept", got)
		}
	}
	wantPage(t, MustVisit(t, s, "/orders/"+placed.ID), http.StatusOK, placed.ID)
	wantPage(t, MustVisit(t, s, "/orders/"+shoptest.Unknown), http.StatusNotFound, "there is no such order")
	wantPage(t, MustVisit(t, s, "/orders/nonsense"), http.StatusBadRequest, "is not an order id")
	wantPage(t, MustVisit(t, s, "/<script>"), http.StatusNotFound, "unknown path")
	wantPage(t, s.MustDo(t, http.MethodPut, "/orders", "", browser("Sec-Fetch-Site", "same-origin")), http.StatusMethodNotAllowed)
}

// Without a source of traces, no page has a link that needs one, and the pages explain how
// to get one. With a source, the links are there.
func TestPagesWithoutTraces(t *testing.T) {
	t.Parallel()
	s := shoptest.Open(t, systemtest.Server(t).Connect, storefront.Service(nil, nil).Wire)
	traced := open(t)
	link := regexp.MustCompile(`href="[^"]*/(trail|services)[#"]`)
	for _, s := range []*shoptest.Shop{s, traced} {
		placed := s.MustPlace(t)
		s.AwaitListed(t, placed.ID)
		for _, path := range []string{"/", "/orders/" + placed.ID} {
			page := wantPage(t, MustVisit(t, s, path), http.StatusOK, placed.ID)
			if got := link.MatchString(page); got != (s == traced) {
				t.Errorf("%s: links to traces: %t, want %t: %s", path, got, s == traced, link.FindString(page))
			}
			if got := strings.Contains(page, "JAEGER_URL") && strings.Contains(page, "OTEL_EXPORTER_OTLP_ENDPOINT"); got == (s == traced) {
				t.Errorf("%s: explains how to get traces: %t, want %t", path, got, s != traced)
			}
		}
	}
	wantPage(t, MustVisit(t, s, "/services"), http.StatusNotImplemented, "set JAEGER_URL")
}
