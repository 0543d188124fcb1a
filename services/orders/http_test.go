package orders_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

func TestPost(t *testing.T) {
	t.Parallel()
	s := open(t)
	before := time.Now()
	a := s.MustPost(t, shoptest.Body(nil))
	a.WantStatus(t, http.StatusAccepted)
	got := a.MustOrder(t)
	if !event.IsOrderID(got.ID) {
		t.Errorf("id = %q, want an order id", got.ID)
	}
	if got, want := a.Header.Get("Location"), "/orders/"+got.ID; got != want {
		t.Errorf("Location = %q, want %q", got, want)
	}
	if got, want := a.Header.Get("Content-Type"), "application/json"; got != want {
		t.Errorf("Content-Type = %q, want %q", got, want)
	}
	if got, want := a.Header.Get("Cache-Control"), "no-store"; got != want {
		t.Errorf("Cache-Control = %q, want %q", got, want)
	}
	if got.State != orders.StateCreated || got.Reason != "" || got.Refunded {
		t.Errorf("state = %q, reason = %q, refunded = %t, want a new order", got.State, got.Reason, got.Refunded)
	}
	price := func(sku string) event.Money {
		p, ok := catalog.Find(sku)
		if !ok {
			t.Fatalf("no %s in the catalogue", sku)
		}
		return p.Price
	}
	want := []event.Item{{SKU: "TRAIL-MAP", Quantity: 2, UnitPrice: price("TRAIL-MAP")}, {SKU: "COMPASS", Quantity: 1, UnitPrice: price("COMPASS")}}
	if !slices.Equal(got.Items, want) {
		t.Errorf("items = %+v, want %+v", got.Items, want)
	}
	if want := (event.Money{Amount: 2*price("TRAIL-MAP").Amount + price("COMPASS").Amount, Currency: "EUR"}); got.Total != want {
		t.Errorf("total = %+v, want %+v", got.Total, want)
	}
	if len(got.Events) != 1 || got.Events[0].Type != event.OrderCreated || got.Events[0].Sequence == 0 ||
		got.Events[0].Time.Before(before.Add(-time.Second)) || len(got.Events[0].TraceID) != 32 || len(got.Events[0].SpanID) != 16 {
		t.Errorf("events = %+v, want orders.created alone, with sequence, time and span", got.Events)
	}

	// The members of the contract, and their names.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(a.Content, &members); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(members)), []string{"events", "id", "items", "refunded", "state", "total"}; !slices.Equal(got, want) {
		t.Errorf("members = %v, want %v", got, want)
	}

	// Location leads to the same order.
	read := s.MustDo(t, http.MethodGet, a.Header.Get("Location"), "", nil)
	read.WantStatus(t, http.StatusOK)
	again := read.MustOrder(t)
	if again.ID != got.ID || again.Total != got.Total || len(again.Events) != 1 || again.Events[0].Sequence != got.Events[0].Sequence ||
		again.Events[0].SpanID != got.Events[0].SpanID {
		t.Errorf("GET = %+v, want %+v", again, got)
	}
}

// The event holds everything that later steps need, as a CloudEvent whose id is
// its subject.
func TestStoredEvent(t *testing.T) {
	t.Parallel()
	s := open(t)
	placed := s.MustPlace(t)
	subject := "orders.created." + placed.ID
	m := s.MustStored(t, subject)
	for name, want := range map[string]string{
		"ce-specversion": "1.0", "ce-id": subject, "ce-source": "/ordertrail/orders", "ce-type": "orders.created",
		"content-type": "application/json", "baggage": "order.id=" + placed.ID,
		"traceparent": "00-" + placed.Events[0].TraceID + "-" + placed.Events[0].SpanID + "-01",
	} {
		if got := m.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("header %s = %q, want %q", name, got, want)
		}
	}
	if at, err := time.Parse(time.RFC3339Nano, m.Header.Get("ce-time")); err != nil || at.Location() != time.UTC {
		t.Errorf("ce-time = %q (%v), want a time in UTC", m.Header.Get("ce-time"), err)
	}
	e, err := event.Check(m.Subject, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	created, err := event.Decode[event.Created](e)
	if err != nil {
		t.Fatal(err)
	}
	if created.Customer != (event.Customer{Name: "Robin Example", Email: "robin@example.com"}) || created.Payment.Token != "tok_ok" ||
		created.Shipping.Address != "1 Trailhead Way, 12345 Sampleton" || created.Total != placed.Total || !slices.Equal(created.Items, placed.Items) {
		t.Errorf("created = %+v, want what was ordered", created)
	}
}

// badIDs are no order ids, or not in the one form that is allowed.
var badIDs = map[string]string{
	"NoUUID":      "42",
	"UpperCase":   "01890000-0000-7000-8000-00000000000A",
	"Version4":    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
	"NoDashes":    "01890000000070008000000000000000",
	"Braces":      "%7B01890000-0000-7000-8000-000000000000%7D",
	"URN":         "urn:uuid:01890000-0000-7000-8000-000000000000",
	"Wildcard":    "*",
	"Subject":     "orders.created.01890000-0000-7000-8000-000000000000",
	"OtherUUID":   "01890000-0000-7000-0000-000000000000",
	"LineBreak":   "01890000-0000-7000-8000-000000000000%0d%0a",
	"MuchTooLong": strings.Repeat("0", 4000),
}

func TestGet(t *testing.T) {
	t.Parallel()
	s := open(t)
	t.Run("Unknown", func(t *testing.T) {
		s.MustDo(t, http.MethodGet, "/orders/"+shoptest.Unknown, "", nil).WantProblem(t, http.StatusNotFound, "no such order")
	})
	t.Run("UnknownAndYoung", func(t *testing.T) { // the replica may lag: the shop reads again
		began := time.Now()
		s.MustDo(t, http.MethodGet, "/orders/"+event.NewOrderID(), "", nil).WantProblem(t, http.StatusNotFound, "no such order")
		if took := time.Since(began); took < 900*time.Millisecond || took > 3*time.Second {
			t.Errorf("it took %v, want about 1 s", took)
		}
	})
	for name, id := range badIDs {
		t.Run(name, func(t *testing.T) {
			a := s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil)
			a.WantProblem(t, http.StatusBadRequest, "not an order id", "UUIDv7")
			if len(a.Content) > 1000 {
				t.Errorf("the answer has %d bytes", len(a.Content))
			}
		})
	}
	t.Run("Cancelled", func(t *testing.T) {
		order := s.MustPlace(t)
		s.MustPublish(t, event.FulfillmentCancelled, conclusion(order.ID, event.ReasonOutOfStock))
		s.MustPublish(t, event.PaymentRefunded, event.Charge{OrderKey: event.OrderKey{OrderID: order.ID}})
		got := s.MustDo(t, http.MethodGet, "/orders/"+order.ID, "", nil).MustOrder(t)
		if got.State != orders.StateCancelled || got.Reason != event.ReasonOutOfStock || !got.Refunded || len(got.Events) != 3 {
			t.Errorf("order = %+v, want it cancelled, out of stock, refunded, with 3 events", got)
		}
	})
	t.Run("NotCreatedHere", func(t *testing.T) { // a message that names the order, but is none
		for name, data := range map[string]string{"Null": "null", "AnotherOrder": `{"order_id":"` + shoptest.Unknown + `"}`} {
			t.Run(name, func(t *testing.T) {
				id := MustForge(t, s, data)
				if a := s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil); a.StatusCode != http.StatusNotFound {
					t.Errorf("GET: %d %s, want %d", a.StatusCode, a.Content, http.StatusNotFound)
				}
				if a := s.MustDo(t, http.MethodDelete, "/orders/"+id, "", nil); a.StatusCode != http.StatusNotFound {
					t.Errorf("DELETE: %d %s, want %d", a.StatusCode, a.Content, http.StatusNotFound)
				}
			})
		}
	})
}

func TestDelete(t *testing.T) {
	t.Parallel()
	s := open(t)
	order := s.MustPlace(t)
	for _, name := range []string{"First", "Again"} {
		t.Run(name, func(t *testing.T) {
			a := s.MustDo(t, http.MethodDelete, "/orders/"+order.ID, "", nil)
			a.WantStatus(t, http.StatusAccepted)
			got := a.MustOrder(t)
			if got.ID != order.ID || got.State != orders.StateCancelling || len(got.Events) != 2 || got.Events[1].Type != event.OrderCancelled {
				t.Errorf("order = %+v, want it cancelling, with orders.created and orders.cancelled", got)
			}
		})
	}
	t.Run("Event", func(t *testing.T) {
		m := s.MustStored(t, "orders.cancelled."+order.ID)
		e, err := event.Check(m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		asked, err := event.Decode[event.Refused](e)
		if err != nil || asked.Reason != event.ReasonCustomer {
			t.Errorf("event = %+v, %v, want reason %s", asked, err, event.ReasonCustomer)
		}
		if got, want := m.Header.Get("baggage"), "order.id="+order.ID; got != want {
			t.Errorf("baggage = %q, want %q", got, want)
		}
	})
	t.Run("LinksTheOrder", func(t *testing.T) {
		span := spanNamed(t, s.Spans, "DELETE /orders/{id}", order.ID)
		if span.Parent().IsValid() {
			t.Error("the request's span has a parent, want a root")
		}
		if links := span.Links(); len(links) != 1 || links[0].SpanContext.SpanID().String() != order.Events[0].SpanID {
			t.Errorf("links = %v, want one to the span that published the order", links)
		}
	})
	t.Run("Unknown", func(t *testing.T) {
		s.MustDo(t, http.MethodDelete, "/orders/"+shoptest.Unknown, "", nil).WantProblem(t, http.StatusNotFound, "no such order")
	})
	for name, id := range badIDs {
		t.Run(name, func(t *testing.T) {
			s.MustDo(t, http.MethodDelete, "/orders/"+id, "", nil).WantProblem(t, http.StatusBadRequest, "not an order id")
		})
	}
	for name, end := range map[string]event.Type{"Shipped": event.FulfillmentShipped, "Cancelled": event.FulfillmentCancelled} {
		t.Run(name, func(t *testing.T) {
			order := s.MustPlace(t)
			s.MustPublish(t, end, conclusion(order.ID, ""))
			last := s.MustLast(t)
			s.MustDo(t, http.MethodDelete, "/orders/"+order.ID, "", nil).WantProblem(t, http.StatusConflict, "already")
			if got := s.MustLast(t); got != last {
				t.Errorf("the stream ends at %d, want %d: a cancellation was stored", got, last)
			}
		})
	}
	t.Run("Concurrently", func(t *testing.T) {
		order := s.MustPlace(t)
		last := s.MustLast(t)
		for _, a := range s.MustDoAll(t, 10, func(int) (string, string, string, http.Header) {
			return http.MethodDelete, "/orders/" + order.ID, "", nil
		}) {
			a.WantStatus(t, http.StatusAccepted)
		}
		if got, want := s.MustLast(t), last+1; got != want {
			t.Errorf("the stream ends at %d, want %d: one cancellation", got, want)
		}
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	s := open(t)
	read := func() []orders.Order {
		a := s.MustDo(t, http.MethodGet, "/orders", "", nil)
		a.WantStatus(t, http.StatusOK)
		var list map[string][]orders.Order
		if err := json.Unmarshal(a.Content, &list); err != nil || len(list) != 1 || list["orders"] == nil {
			t.Fatalf("GET /orders: %s (%v), want an array of orders", a.Content, err)
		}
		return list["orders"]
	}
	if got := read(); len(got) != 0 {
		t.Errorf("an empty shop lists %v", got)
	}
	MustForge(t, s, "null")
	placed := []string{s.MustPlace(t).ID}
	systemtest.Until(t, "the first order is listed, and no foreign one", func() bool {
		list := read()
		return len(list) == 1 && list[0].ID == placed[0]
	})
	for range 119 {
		placed = append(placed, s.MustPlace(t).ID)
	}
	s.MustPublish(t, event.FulfillmentShipped, conclusion(placed[119], ""))
	systemtest.Until(t, "the newest order is listed as shipped", func() bool {
		list := read()
		return len(list) > 0 && list[0].ID == placed[119] && list[0].State == orders.StateShipped
	})
	list := read()
	if got, want := len(list), 100; got != want {
		t.Fatalf("%d orders are listed, want %d", got, want)
	}
	for i, o := range list {
		if want := placed[119-i]; o.ID != want {
			t.Fatalf("order %d of the list is %s, want %s: newest first", i, o.ID, want)
		}
		if o.State == "" || o.Items == nil || o.Events == nil || o.Total.Currency == "" {
			t.Errorf("order = %+v, want it whole", o)
		}
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := s.MustDo(t, http.MethodGet, "/catalog", "", nil)
	a.WantStatus(t, http.StatusOK)
	var got struct {
		Products []map[string]any `json:"products"`
	}
	if err := json.Unmarshal(a.Content, &got); err != nil {
		t.Fatal(err)
	}
	if got, want := len(got.Products), len(catalog.Products()); got != want {
		t.Fatalf("%d products, want %d", got, want)
	}
	for _, p := range got.Products {
		if keys := slices.Sorted(maps.Keys(p)); !slices.Equal(keys, []string{"name", "price", "sku"}) {
			t.Errorf("a product has %v, want name, price and sku", keys)
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nothing", 404, ""},
		{"POST", "/nothing", 404, ""},
		{"GET", "/orders/", 404, ""},
		{"GET", "/orders/" + shoptest.Unknown + "/nothing", 404, ""},
		{"GET", "/order", 404, ""},
		{"PUT", "/orders", 405, "GET, HEAD, POST"},
		{"PATCH", "/orders", 405, "GET, HEAD, POST"},
		{"DELETE", "/orders", 405, "GET, HEAD, POST"},
		{"POST", "/orders/" + shoptest.Unknown, 405, "DELETE, GET, HEAD"},
		{"POST", "/catalog", 405, "GET, HEAD"},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			a := s.MustDo(t, tc.method, tc.path, "", nil)
			a.WantProblem(t, tc.status)
			if got := a.Header.Get("Allow"); got != tc.allow {
				t.Errorf("Allow = %q, want %q", got, tc.allow)
			}
		})
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		t.Run(path, func(t *testing.T) {
			a := s.MustDo(t, http.MethodGet, path, "", nil)
			if a.WantStatus(t, http.StatusOK); strings.TrimSpace(string(a.Content)) != "ok" {
				t.Errorf("answer = %q, want ok", a.Content)
			}
		})
	}
}
