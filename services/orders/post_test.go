package orders_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

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
