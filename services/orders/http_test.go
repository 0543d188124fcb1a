package orders_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ordertrail/internal/catalog"
	"ordertrail/internal/event"
	"ordertrail/internal/system/systemtest"
	"ordertrail/services/orders"
)

const reconnectSoon = 10 * time.Millisecond

// unknown is an order id made long ago, for which no replica can be late.
const unknown = "01890000-0000-7000-8000-000000000000"

func TestPost(t *testing.T) {
	t.Parallel()
	s := open(t)
	before := time.Now()
	a := s.MustPost(t, body(nil))
	wantStatus(t, a, http.StatusAccepted)
	got := MustOrder(t, a)
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
	if err := json.Unmarshal(a.body, &members); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(members)), []string{"events", "id", "items", "refunded", "state", "total"}; !slices.Equal(got, want) {
		t.Errorf("members = %v, want %v", got, want)
	}

	// What Location names is the same order.
	read := s.MustDo(t, http.MethodGet, a.Header.Get("Location"), "", nil)
	wantStatus(t, read, http.StatusOK)
	again := MustOrder(t, read)
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

// Every kind of request that is wrong is refused with what is wrong, and where, and
// leaves nothing behind.
func TestPostRefuses(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.MustPlace(t) // the shop is open
	last := s.MustLast(t)

	long := func(n int) string { return strings.Repeat("x", n) }
	items := func(n int) (list []any) {
		for range n {
			list = append(list, map[string]any{"sku": "TRAIL-MAP", "quantity": 1})
		}
		return list
	}
	raw := func(old, replacement string) string {
		b := body(nil)
		if !strings.Contains(b, old) {
			t.Fatalf("the body has no %s", old)
		}
		return strings.Replace(b, old, replacement, 1)
	}
	const quantity, mail = `"quantity":2`, `"email":"robin@example.com"`
	for _, tc := range []struct {
		name   string
		body   string
		status int
		says   []string
	}{
		{"Empty", "", 400, []string{"the body is empty"}},
		{"Blank", " \n\t ", 400, []string{"the body is empty"}},
		{"NotJSON", "sku=TRAIL-MAP", 400, []string{"not JSON", "byte 1"}},
		{"Truncated", body(nil)[:60], 400, []string{"not JSON", "ends too early"}},
		{"TruncatedInString", `{"customer":{"name":"Rob`, 400, []string{"not JSON", "ends too early"}},
		{"TrailingObject", body(nil) + body(nil), 400, []string{"behind the JSON object", "byte"}},
		{"TrailingBrace", body(nil) + "}", 400, []string{"behind the JSON object", "byte"}},
		{"TrailingGarbage", body(nil) + "x", 400, []string{"behind the JSON object", "byte"}},
		{"ByteOrderMark", "\ufeff" + body(nil), 400, []string{"not JSON", "byte 1"}},
		{"InvalidUTF8", raw("Robin", "Rob\xff"), 400, []string{"not UTF-8", "byte"}},
		{"ControlCharacterInJSON", raw("Robin", "Rob\nin"), 400, []string{"not JSON", "byte"}},
		{"Deep", strings.Repeat("[", 30000), 400, []string{"the body"}},

		{"Null", "null", 422, []string{"/customer/name", "/items"}},
		{"Array", "[]", 400, []string{"the body", "array"}},
		{"String", `"order"`, 400, []string{"the body", "string"}},
		{"Number", "1", 400, []string{"the body", "number"}},
		{"CustomerIsString", body(map[string]any{"customer": "Robin"}), 400, []string{"customer", "string"}},
		{"NameIsNumber", body(map[string]any{"customer.name": 1}), 400, []string{"customer.name", "number"}},
		{"EmailIsArray", body(map[string]any{"customer.email": []string{"robin@example.com"}}), 400, []string{"customer.email", "array"}},
		{"ItemsIsObject", body(map[string]any{"items": map[string]any{}}), 400, []string{"items", "object"}},
		{"ItemIsString", body(map[string]any{"items.0": "TRAIL-MAP"}), 400, []string{"items", "string"}},
		{"SKUIsNumber", body(map[string]any{"items.0.sku": 1}), 400, []string{"items.sku", "number"}},
		{"QuantityIsString", body(map[string]any{"items.0.quantity": "2"}), 400, []string{"items.quantity", "string"}},
		{"QuantityIsBool", body(map[string]any{"items.0.quantity": true}), 400, []string{"items.quantity", "bool"}},
		{"QuantityIsFraction", raw(quantity, `"quantity":1.5`), 400, []string{"items.quantity", "1.5"}},
		{"QuantityIsExponent", raw(quantity, `"quantity":1e1`), 400, []string{"items.quantity", "1e1"}},
		{"QuantityOverflows", raw(quantity, `"quantity":9223372036854775808`), 400, []string{"items.quantity", "9223372036854775808"}},
		{"QuantityIsEndless", raw(quantity, `"quantity":`+strings.Repeat("9", 40000)), 400, []string{"items.quantity"}},
		{"PaymentIsString", body(map[string]any{"payment": "tok_ok"}), 400, []string{"payment", "string"}},
		{"TokenIsObject", body(map[string]any{"payment.token": map[string]any{}}), 400, []string{"payment.token", "object"}},
		{"ShippingIsString", body(map[string]any{"shipping": "here"}), 400, []string{"shipping", "string"}},
		{"AddressIsNumber", body(map[string]any{"shipping.address": 1}), 400, []string{"shipping.address", "number"}},

		{"CustomerIsNull", body(map[string]any{"customer": nil}), 422, []string{"/customer/name: is missing", "/customer/email: is missing"}},
		{"NameIsNull", body(map[string]any{"customer.name": nil}), 422, []string{"/customer/name: is missing"}},
		{"ItemsIsNull", body(map[string]any{"items": nil}), 422, []string{"/items: is missing"}},
		{"ItemIsNull", body(map[string]any{"items.1": nil}), 422, []string{"/items/1/sku", "/items/1/quantity"}},
		{"QuantityIsNull", body(map[string]any{"items.0.quantity": nil}), 422, []string{"/items/0/quantity: is 0"}},
		{"AllMissing", "{}", 422, []string{"/customer/name", "/customer/email", "/payment/token", "/shipping/address", "/items"}},
		{"NoCustomer", body(map[string]any{"customer": absent{}}), 422, []string{"/customer/name: is missing"}},
		{"NoName", body(map[string]any{"customer.name": absent{}}), 422, []string{"/customer/name: is missing"}},
		{"NoEmail", body(map[string]any{"customer.email": absent{}}), 422, []string{"/customer/email: is missing"}},
		{"NoItems", body(map[string]any{"items": absent{}}), 422, []string{"/items: is missing"}},
		{"EmptyItems", body(map[string]any{"items": []any{}}), 422, []string{"/items: is missing"}},
		{"NoSKU", body(map[string]any{"items.0.sku": absent{}}), 422, []string{"/items/0/sku"}},
		{"NoQuantity", body(map[string]any{"items.0.quantity": absent{}}), 422, []string{"/items/0/quantity"}},
		{"NoPayment", body(map[string]any{"payment": absent{}}), 422, []string{"/payment/token: is missing"}},
		{"NoToken", body(map[string]any{"payment.token": absent{}}), 422, []string{"/payment/token: is missing"}},
		{"NoShipping", body(map[string]any{"shipping": absent{}}), 422, []string{"/shipping/address: is missing"}},
		{"NoAddress", body(map[string]any{"shipping.address": absent{}}), 422, []string{"/shipping/address: is missing"}},
		{"BlankName", body(map[string]any{"customer.name": " \u00a0 "}), 422, []string{"/customer/name: is missing"}},

		{"UnknownField", body(map[string]any{"coupon": "FREE"}), 400, []string{`unknown field "coupon"`}},
		{"UnknownFieldWithin", body(map[string]any{"items.0.unit_price": 1}), 400, []string{`unknown field "unit_price"`}},
		{"UnknownFieldHash", body(map[string]any{"hash": "x"}), 400, []string{`unknown field "hash"`}},
		{"UnknownLongField", body(map[string]any{long(50000): 1}), 400, []string{"unknown field"}},

		{"EmailWithoutAt", body(map[string]any{"customer.email": "robin"}), 422, []string{"/customer/email"}},
		{"EmailWithoutHost", body(map[string]any{"customer.email": "robin@"}), 422, []string{"/customer/email"}},
		{"EmailWithoutName", body(map[string]any{"customer.email": "@example.com"}), 422, []string{"/customer/email"}},
		{"EmailTwice", body(map[string]any{"customer.email": "robin@example.com, eve@example.com"}), 422, []string{"/customer/email"}},
		{"EmailWithSpace", body(map[string]any{"customer.email": "ro bin@example.com"}), 422, []string{"/customer/email"}},
		{"EmailWithOuterSpace", body(map[string]any{"customer.email": " robin@example.com"}), 422, []string{"/customer/email"}},
		{"EmailInBrackets", body(map[string]any{"customer.email": "<robin@example.com>"}), 422, []string{"/customer/email"}},
		{"EmailWithName", body(map[string]any{"customer.email": "Robin <robin@example.com>"}), 422, []string{"/customer/email"}},
		{"EmailWithComment", body(map[string]any{"customer.email": "robin@example.com (Robin)"}), 422, []string{"/customer/email"}},
		{"EmailWithTwoAts", body(map[string]any{"customer.email": "robin@example@com"}), 422, []string{"/customer/email"}},
		{"EmailWithDots", body(map[string]any{"customer.email": "robin..x@example.com"}), 422, []string{"/customer/email"}},
		{"EmailQuoted", body(map[string]any{"customer.email": `"robin x"@example.com`}), 422, []string{"/customer/email"}},

		{"NameWithLineBreak", body(map[string]any{"customer.name": "Robin\r\nBcc: eve@example.com"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithLineFeed", body(map[string]any{"customer.name": "Robin\nBcc: eve@example.com"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithNUL", body(map[string]any{"customer.name": "Robin\x00"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithEscape", body(map[string]any{"customer.name": "\x1b[31mRobin"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithNextLine", body(map[string]any{"customer.name": "Robin\u0085Eve"}), 422, []string{"/customer/name", "control character"}},
		{"EmailWithLineBreak", body(map[string]any{"customer.email": "robin@example.com\r\nBcc: eve@example.com"}), 422, []string{"/customer/email", "control character"}},
		{"TokenWithLineBreak", body(map[string]any{"payment.token": "tok_ok\r\n"}), 422, []string{"/payment/token", "control character"}},
		{"AddressWithLineBreak", body(map[string]any{"shipping.address": "1 Way\r\nSubject: x"}), 422, []string{"/shipping/address", "control character"}},

		{"LongName", body(map[string]any{"customer.name": strings.Repeat("ä", 201)}), 422, []string{"/customer/name", "201", "200"}},
		{"LongEmail", body(map[string]any{"customer.email": long(250) + "@example.com"}), 422, []string{"/customer/email", "262", "254"}},
		{"LongToken", body(map[string]any{"payment.token": long(101)}), 422, []string{"/payment/token", "101", "100"}},
		{"LongAddress", body(map[string]any{"shipping.address": long(501)}), 422, []string{"/shipping/address", "501", "500"}},

		{"QuantityZero", body(map[string]any{"items.0.quantity": 0}), 422, []string{"/items/0/quantity: is 0", "1 to 1000"}},
		{"QuantityNegative", body(map[string]any{"items.1.quantity": -1}), 422, []string{"/items/1/quantity: is -1"}},
		{"QuantityTooLarge", body(map[string]any{"items.0.quantity": 1001}), 422, []string{"/items/0/quantity: is 1001"}},
		{"QuantityHuge", raw(quantity, `"quantity":9223372036854775807`), 422, []string{"/items/0/quantity"}},
		{"QuantityLowest", raw(quantity, `"quantity":-9223372036854775808`), 422, []string{"/items/0/quantity"}},
		{"UnknownSKU", body(map[string]any{"items.1.sku": "SUBMARINE"}), 422, []string{"/items/1/sku", "SUBMARINE"}},
		{"SKUInOtherCase", body(map[string]any{"items.1.sku": "compass"}), 422, []string{"/items/1/sku", "compass"}},
		{"SKUWithWildcard", body(map[string]any{"items.1.sku": "*"}), 422, []string{"/items/1/sku"}},
		{"LongSKU", body(map[string]any{"items.1.sku": long(50000)}), 422, []string{"/items/1/sku"}},
		{"DuplicateSKU", body(map[string]any{"items.1.sku": "TRAIL-MAP"}), 422, []string{"/items/1/sku", "/items/0"}},
		{"TooManyItems", body(map[string]any{"items": items(51)}), 422, []string{"/items: has 51 entries, 50 are allowed"}},
		{"ThousandsOfItems", raw(`"items":[`, `"items":[`+strings.Repeat("{},", 15000)), 422, []string{"/items: has 15002 entries, 50 are allowed"}},
		{"SeveralFaults", body(map[string]any{"customer.name": "", "items.0.quantity": 0, "shipping.address": "\t1"}), 422,
			[]string{"/customer/name", "/items/0/quantity", "/shipping/address"}},

		{"Oversize", strings.TrimSuffix(body(nil), "}") + strings.Repeat(" ", 64<<10) + "}", 413, []string{"the body is larger than 65536 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.MustPost(t, tc.body)
			p := wantProblem(t, a, tc.status, tc.says...)
			if tc.status == http.StatusUnprocessableEntity && len(p.Errors) == 0 {
				t.Errorf("problem = %+v, want what is wrong as errors too", p)
			}
			if most := 4 << 10; len(a.body) > most {
				t.Errorf("the answer has %d bytes, want %d at most", len(a.body), most)
			}
		})
	}

	t.Run("OversizeInChunks", func(t *testing.T) {
		r, err := http.NewRequest(http.MethodPost, s.url+"/orders", struct{ *strings.Reader }{strings.NewReader(body(nil) + strings.Repeat(" ", 64<<10))})
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength, r.Header = -1, jsonHeader()
		response, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if got, want := response.StatusCode, http.StatusRequestEntityTooLarge; got != want {
			t.Errorf("status = %d, want %d", got, want)
		}
	})

	for name, header := range map[string]http.Header{
		"NoContentType":     {},
		"Form":              {"Content-Type": {"application/x-www-form-urlencoded"}},
		"Text":              {"Content-Type": {"text/plain"}},
		"AnotherJSON":       {"Content-Type": {"application/problem+json"}},
		"EmptyContentType":  {"Content-Type": {""}},
		"BrokenContentType": {"Content-Type": {"application/json; charset"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, s.MustDo(t, http.MethodPost, "/orders", body(nil), header), http.StatusUnsupportedMediaType, "Content-Type", "application/json")
		})
	}
	for name, keys := range map[string][]string{
		"EmptyKey": {""}, "LongKey": {long(256)}, "KeyWithSpace": {"a b"}, "KeyNotASCII": {"schlüssel"}, "KeyWithTab": {"a\tb"},
		"TwoKeys": {"a", "b"}, "SameKeyTwice": {"a", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			header := jsonHeader()
			header["Idempotency-Key"] = keys
			wantProblem(t, s.MustDo(t, http.MethodPost, "/orders", body(nil), header), http.StatusBadRequest, "Idempotency-Key")
		})
	}
	if got := s.MustLast(t); got != last {
		t.Errorf("the stream ends at %d, want %d: something was stored", got, last)
	}
}

// What is just within the bounds is accepted.
func TestPostAccepts(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, tc := range []struct{ name, body string }{
		{"LongestName", body(map[string]any{"customer.name": strings.Repeat("ä", 200)})},
		{"LongestAddress", body(map[string]any{"shipping.address": strings.Repeat("x", 500)})},
		{"LongestToken", body(map[string]any{"payment.token": strings.Repeat("x", 100)})},
		{"LargestQuantity", body(map[string]any{"items.0.quantity": 1000})},
		{"OneItem", body(map[string]any{"items": []any{map[string]any{"sku": "LAST-ONE", "quantity": 1}}})},
		{"Surrounded", "\r\n\t " + body(nil) + " \n"},
		{"NameOfAnyScript", body(map[string]any{"customer.name": "Þórunn O’Neill-李 🥾"})},
		{"PlusInEmail", body(map[string]any{"customer.email": "robin+trail@example.com"})},
		{"LargestBody", body(nil) + strings.Repeat(" ", 64<<10-len(body(nil)))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantStatus(t, s.MustPost(t, tc.body), http.StatusAccepted)
		})
	}
	t.Run("Charset", func(t *testing.T) {
		header := http.Header{"Content-Type": {"Application/JSON; charset=utf-8"}}
		wantStatus(t, s.MustDo(t, http.MethodPost, "/orders", body(nil), header), http.StatusAccepted)
	})
	t.Run("LongestKey", func(t *testing.T) {
		wantStatus(t, s.MustPost(t, body(nil), "Idempotency-Key", strings.Repeat("~", 255)), http.StatusAccepted)
	})
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := s.MustPost(t, body(nil), "Idempotency-Key", "key-1")
	wantStatus(t, first, http.StatusAccepted)
	order := MustOrder(t, first)
	last := s.MustLast(t)

	t.Run("SameBody", func(t *testing.T) {
		again := s.MustPost(t, body(nil), "Idempotency-Key", "key-1")
		wantStatus(t, again, http.StatusAccepted)
		if got := MustOrder(t, again); got.ID != order.ID || got.Events[0] != withTime(order.Events[0], got.Events[0].Time) {
			t.Errorf("the second answer is %+v, want order %s", got, order.ID)
		}
		if got, want := again.Header.Get("Location"), first.Header.Get("Location"); got != want {
			t.Errorf("Location = %q, want %q", got, want)
		}
		systemtest.Until(t, "a span says that the request was repeated", func() bool {
			return slices.ContainsFunc(s.spans.Ended(), func(span sdktrace.ReadOnlySpan) bool {
				attributes := attribute.NewSet(span.Attributes()...)
				repeated, _ := attributes.Value("order.repeated_request")
				id, _ := attributes.Value(event.OrderIDKey)
				return repeated.AsBool() && id.AsString() == order.ID
			})
		})
	})
	t.Run("OtherBody", func(t *testing.T) {
		wantProblem(t, s.MustPost(t, body(map[string]any{"items.0.quantity": 3}), "Idempotency-Key", "key-1"), http.StatusUnprocessableEntity, "Idempotency-Key")
		wantProblem(t, s.MustPost(t, body(nil)+" ", "Idempotency-Key", "key-1"), http.StatusUnprocessableEntity, "Idempotency-Key")
	})
	t.Run("RefusedBodyUsesUpNothing", func(t *testing.T) {
		wantProblem(t, s.MustPost(t, "{}", "Idempotency-Key", "key-3"), http.StatusUnprocessableEntity)
	})
	if got := s.MustLast(t); got != last {
		t.Errorf("the stream ends at %d, want %d: a repeated request was stored", got, last)
	}
	t.Run("OtherKey", func(t *testing.T) {
		for _, key := range []string{"key-2", "key-3", "KEY-1"} {
			if got := MustOrder(t, s.MustPost(t, body(nil), "Idempotency-Key", key)); got.ID == order.ID {
				t.Errorf("key %s leads to the order of key-1", key)
			}
		}
	})
	t.Run("AfterwardsShowsWhatBecameOfIt", func(t *testing.T) {
		s.MustPublish(t, event.FulfillmentShipped, conclusion(order.ID, ""))
		if got := MustOrder(t, s.MustPost(t, body(nil), "Idempotency-Key", "key-1")); got.State != orders.StateShipped {
			t.Errorf("state = %s, want %s", got.State, orders.StateShipped)
		}
	})
}

// withTime is e with another time: an answer to POST has the publisher's, later
// ones have the stream's.
func withTime(e orders.Event, at time.Time) orders.Event { e.Time = at; return e }

func TestIdempotencyKeyConcurrently(t *testing.T) {
	t.Parallel()
	s := open(t)
	answers := s.MustDoAll(t, 20, func(int) (string, string, string, http.Header) {
		return http.MethodPost, "/orders", body(nil), jsonHeader("Idempotency-Key", "one")
	})
	ids := map[string]bool{}
	for _, a := range answers {
		wantStatus(t, a, http.StatusAccepted)
		ids[MustOrder(t, a).ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("%d orders were answered, want 1", len(ids))
	}
	if got := s.MustLast(t); got != 1 {
		t.Errorf("%d events were stored, want 1", got)
	}
}

func conclusion(id, reason string) event.Conclusion {
	return event.Conclusion{OrderKey: event.OrderKey{OrderID: id}, Reason: reason, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}}}
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
		wantProblem(t, s.MustDo(t, http.MethodGet, "/orders/"+unknown, "", nil), http.StatusNotFound, "no such order")
	})
	t.Run("UnknownAndYoung", func(t *testing.T) { // a replica may be late: it is looked for again
		began := time.Now()
		wantProblem(t, s.MustDo(t, http.MethodGet, "/orders/"+event.NewOrderID(), "", nil), http.StatusNotFound, "no such order")
		if took := time.Since(began); took < time.Second || took > 3*time.Second {
			t.Errorf("it took %v, want about 1 s", took)
		}
	})
	for name, id := range badIDs {
		t.Run(name, func(t *testing.T) {
			a := s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil)
			wantProblem(t, a, http.StatusBadRequest, "not an order id", "UUIDv7")
			if len(a.body) > 1000 {
				t.Errorf("the answer has %d bytes", len(a.body))
			}
		})
	}
	t.Run("Cancelled", func(t *testing.T) {
		order := s.MustPlace(t)
		s.MustPublish(t, event.FulfillmentCancelled, conclusion(order.ID, event.ReasonOutOfStock))
		s.MustPublish(t, event.PaymentRefunded, event.Charge{OrderKey: event.OrderKey{OrderID: order.ID}})
		got := MustOrder(t, s.MustDo(t, http.MethodGet, "/orders/"+order.ID, "", nil))
		if got.State != orders.StateCancelled || got.Reason != event.ReasonOutOfStock || !got.Refunded || len(got.Events) != 3 {
			t.Errorf("order = %+v, want it cancelled, out of stock, refunded, with 3 events", got)
		}
	})
	t.Run("NotCreatedHere", func(t *testing.T) { // a message that names the order, but is none
		for name, data := range map[string]string{"Null": "null", "AnotherOrder": `{"order_id":"` + unknown + `"}`} {
			t.Run(name, func(t *testing.T) {
				id := s.MustForge(t, data)
				if a := s.MustDo(t, http.MethodGet, "/orders/"+id, "", nil); a.StatusCode != http.StatusNotFound {
					t.Errorf("GET: %d %s, want %d", a.StatusCode, a.body, http.StatusNotFound)
				}
				if a := s.MustDo(t, http.MethodDelete, "/orders/"+id, "", nil); a.StatusCode != http.StatusNotFound {
					t.Errorf("DELETE: %d %s, want %d", a.StatusCode, a.body, http.StatusNotFound)
				}
			})
		}
	})
}

// MustForge stores an orders.created that no service published, and returns the
// id that it names.
func (s *shop) MustForge(tb testing.TB, data string) string {
	tb.Helper()
	id := event.NewOrderID()
	m := foreign("orders.created."+id, data)
	if _, err := s.js.PublishMsg(context.Background(), m); err != nil {
		tb.Fatal(err)
	}
	return id
}

func TestDelete(t *testing.T) {
	t.Parallel()
	s := open(t)
	order := s.MustPlace(t)
	for _, name := range []string{"First", "Again"} {
		t.Run(name, func(t *testing.T) {
			a := s.MustDo(t, http.MethodDelete, "/orders/"+order.ID, "", nil)
			wantStatus(t, a, http.StatusAccepted)
			got := MustOrder(t, a)
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
		asked, err := event.Decode[event.CancelRequested](e)
		if err != nil || asked.Reason != event.ReasonCustomer {
			t.Errorf("event = %+v, %v, want reason %s", asked, err, event.ReasonCustomer)
		}
		if got, want := m.Header.Get("baggage"), "order.id="+order.ID; got != want {
			t.Errorf("baggage = %q, want %q", got, want)
		}
	})
	t.Run("LinksTheOrder", func(t *testing.T) {
		span := spanNamed(t, s.spans, "DELETE /orders/{id}", order.ID)
		if span.Parent().IsValid() {
			t.Error("the request's span has a parent, want a root")
		}
		if links := span.Links(); len(links) != 1 || links[0].SpanContext.SpanID().String() != order.Events[0].SpanID {
			t.Errorf("links = %v, want one to the span that published the order", links)
		}
	})
	t.Run("Unknown", func(t *testing.T) {
		wantProblem(t, s.MustDo(t, http.MethodDelete, "/orders/"+unknown, "", nil), http.StatusNotFound, "no such order")
	})
	for name, id := range badIDs {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, s.MustDo(t, http.MethodDelete, "/orders/"+id, "", nil), http.StatusBadRequest, "not an order id")
		})
	}
	for name, end := range map[string]event.Type{"Shipped": event.FulfillmentShipped, "Cancelled": event.FulfillmentCancelled} {
		t.Run(name, func(t *testing.T) {
			order := s.MustPlace(t)
			s.MustPublish(t, end, conclusion(order.ID, ""))
			last := s.MustLast(t)
			wantProblem(t, s.MustDo(t, http.MethodDelete, "/orders/"+order.ID, "", nil), http.StatusConflict, "already")
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
			wantStatus(t, a, http.StatusAccepted)
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
		wantStatus(t, a, http.StatusOK)
		var list map[string][]orders.Order
		if err := json.Unmarshal(a.body, &list); err != nil || len(list) != 1 || list["orders"] == nil {
			t.Fatalf("GET /orders: %s (%v), want an array of orders", a.body, err)
		}
		return list["orders"]
	}
	if got := read(); len(got) != 0 {
		t.Errorf("an empty shop lists %v", got)
	}
	s.MustForge(t, "null")
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
	wantStatus(t, a, http.StatusOK)
	var got struct {
		Products []map[string]any `json:"products"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
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
		{"GET", "/orders/" + unknown + "/nothing", 404, ""},
		{"GET", "/order", 404, ""},
		{"PUT", "/orders", 405, "GET, HEAD, POST"},
		{"PATCH", "/orders", 405, "GET, HEAD, POST"},
		{"DELETE", "/orders", 405, "GET, HEAD, POST"},
		{"POST", "/orders/" + unknown, 405, "DELETE, GET, HEAD"},
		{"POST", "/catalog", 405, "GET, HEAD"},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			a := s.MustDo(t, tc.method, tc.path, "", nil)
			wantProblem(t, a, tc.status)
			if got := a.Header.Get("Allow"); got != tc.allow {
				t.Errorf("Allow = %q, want %q", got, tc.allow)
			}
		})
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		t.Run(path, func(t *testing.T) {
			a := s.MustDo(t, http.MethodGet, path, "", nil)
			if wantStatus(t, a, http.StatusOK); strings.TrimSpace(string(a.body)) != "ok" {
				t.Errorf("answer = %q, want ok", a.body)
			}
		})
	}
}

// The same in the system, where other services answer beside it.
func TestInTheSystem(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	s := &shop{url: sys.URL, client: sys.Shop.Client, js: sys.JetStream()}
	for _, path := range []string{"/healthz", "/readyz", "/catalog", "/orders", "/analytics"} {
		wantStatus(t, s.MustDo(t, http.MethodGet, path, "", nil), http.StatusOK)
	}
	wantProblem(t, s.MustDo(t, http.MethodGet, "/nothing", "", nil), http.StatusNotFound)
	wantProblem(t, s.MustDo(t, http.MethodPut, "/orders", "", nil), http.StatusMethodNotAllowed)

	placed := s.MustPlace(t)
	order, err := sys.Shop.Await(context.Background(), placed.ID, func(o orders.Order) bool { return o.State == orders.StateShipped })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := order.Total, placed.Total; got != want {
		t.Errorf("total = %+v, want %+v", got, want)
	}
	wantProblem(t, s.MustDo(t, http.MethodDelete, "/orders/"+placed.ID, "", nil), http.StatusConflict, "shipped or cancelled already")
}

// Who calls from outside is linked, and has no other part in the shop's traces.
func TestOutsideContext(t *testing.T) {
	t.Parallel()
	s := open(t)
	const outsideTrace, outsideSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, flags := range []string{"01", "00"} {
		t.Run("Flags"+flags, func(t *testing.T) {
			a := s.MustPost(t, body(nil), "traceparent", "00-"+outsideTrace+"-"+outsideSpan+"-"+flags, "tracestate", "vendor=outside",
				"baggage", "order.id=forged,user.name=Eve")
			wantStatus(t, a, http.StatusAccepted)
			order := MustOrder(t, a)
			server := spanNamed(t, s.spans, "POST /orders", order.ID)
			if server.SpanKind() != trace.SpanKindServer {
				t.Errorf("the request's span is %v, want a server", server.SpanKind())
			}
			if server.Parent().IsValid() {
				t.Errorf("the request's span has the parent %s, want a root", server.Parent().SpanID())
			}
			if got := server.SpanContext().TraceID().String(); got == outsideTrace {
				t.Error("the request's span is in the outside trace")
			}
			if !server.SpanContext().IsSampled() {
				t.Error("the request's span is not sampled")
			}
			links := server.Links()
			if len(links) != 1 || links[0].SpanContext.TraceID().String() != outsideTrace || links[0].SpanContext.SpanID().String() != outsideSpan {
				t.Errorf("links = %v, want one to the outside span", links)
			}
			if got := order.Events[0].TraceID; got != server.SpanContext().TraceID().String() {
				t.Errorf("the event is of trace %s, want %s", got, server.SpanContext().TraceID())
			}
			m := s.MustStored(t, "orders.created."+order.ID)
			if got, want := m.Header.Values("baggage"), []string{"order.id=" + order.ID}; !slices.Equal(got, want) {
				t.Errorf("baggage = %q, want %q", got, want)
			}
			if got := m.Header.Values("tracestate"); len(got) > 0 {
				t.Errorf("tracestate = %q, want none", got)
			}
			if got := m.Header.Get("traceparent"); !strings.HasSuffix(got, "-01") {
				t.Errorf("traceparent = %q, want it sampled", got)
			}
		})
	}
	t.Run("Malformed", func(t *testing.T) {
		order := MustOrder(t, s.MustPost(t, body(nil), "traceparent", "00-zz-zz-01"))
		if links := spanNamed(t, s.spans, "POST /orders", order.ID).Links(); len(links) > 0 {
			t.Errorf("links = %v, want none", links)
		}
	})
}

// No personal data leaves in a span.
func TestSpansHoldNoPersonalData(t *testing.T) {
	t.Parallel()
	s := open(t)
	order := MustOrder(t, s.MustPost(t, body(map[string]any{"customer.name": "Secretname", "customer.email": "secretmail@example.com",
		"shipping.address": "Secretstreet 1", "payment.token": "secrettoken"})))
	spanNamed(t, s.spans, "POST /orders", order.ID)
	s.MustPost(t, body(map[string]any{"customer.email": "secretmail"}))
	for _, span := range s.spans.Ended() {
		if text := strings.ToLower(fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Links(), span.Status())); strings.Contains(text, "secret") {
			t.Errorf("span %s says %s", span.Name(), text)
		}
	}
}

// While NATS is away, requests are refused soon; when it is back, all is well
// again.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	nats := newSwitchable(t)
	s := openOn(t, nats.Connect)
	order := s.MustPlace(t)
	nats.Stop()
	systemtest.Until(t, "the service is not ready", func() bool {
		return s.MustDo(t, http.MethodGet, "/readyz", "", nil).StatusCode == http.StatusServiceUnavailable
	})
	wantStatus(t, s.MustDo(t, http.MethodGet, "/healthz", "", nil), http.StatusOK)
	requests := []struct{ method, path string }{
		{"POST", "/orders"}, {"GET", "/orders/" + order.ID}, {"DELETE", "/orders/" + order.ID}, {"GET", "/orders/" + unknown},
	}
	began := time.Now()
	answers := s.MustDoAll(t, len(requests), func(i int) (string, string, string, http.Header) {
		return requests[i].method, requests[i].path, body(nil), jsonHeader("Idempotency-Key", "away")
	})
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the answers took %v, want 4 s at most", took)
	}
	for i, r := range requests {
		t.Run(r.method+r.path, func(t *testing.T) {
			wantProblem(t, answers[i], http.StatusServiceUnavailable, "try again")
			if got := answers[i].Header.Get("Retry-After"); got == "" {
				t.Error("no Retry-After")
			}
		})
	}
	wantStatus(t, s.MustDo(t, http.MethodGet, "/catalog", "", nil), http.StatusOK)
	nats.Start(t)
	systemtest.Until(t, "the service is ready", func() bool {
		return s.MustDo(t, http.MethodGet, "/readyz", "", nil).StatusCode == http.StatusOK
	})
	var id string
	systemtest.Until(t, "an order is placed", func() bool {
		a := s.MustPost(t, body(nil), "Idempotency-Key", "away")
		if a.StatusCode == http.StatusAccepted {
			id = MustOrder(t, a).ID
		}
		return id != ""
	})
	// The first try may or may not have been stored when the connection came back:
	// with the key it is one order anyway.
	if again := MustOrder(t, s.MustPost(t, body(nil), "Idempotency-Key", "away")); again.ID != id {
		t.Errorf("the key leads to %s, want %s", again.ID, id)
	}
}
