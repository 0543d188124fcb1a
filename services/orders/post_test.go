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
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// Every kind of faulty request is refused with the fault and its place, and stores
// nothing.
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
		b := shoptest.Body(nil)
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
		{"Truncated", shoptest.Body(nil)[:60], 400, []string{"not JSON", "ends too early"}},
		{"TruncatedInString", `{"customer":{"name":"Rob`, 400, []string{"not JSON", "ends too early"}},
		{"TrailingObject", shoptest.Body(nil) + shoptest.Body(nil), 400, []string{"after top-level value", "byte"}},
		{"TrailingBrace", shoptest.Body(nil) + "}", 400, []string{"after top-level value", "byte"}},
		{"TrailingGarbage", shoptest.Body(nil) + "x", 400, []string{"after top-level value", "byte"}},
		{"ByteOrderMark", "\ufeff" + shoptest.Body(nil), 400, []string{"not JSON", "byte 1"}},
		{"InvalidUTF8", raw("Robin", "Rob\xff"), 400, []string{"invalid UTF-8", "byte"}},
		{"ControlCharacterInJSON", raw("Robin", "Rob\nin"), 400, []string{"not JSON", "byte"}},
		{"Deep", strings.Repeat("[", 30000), 400, []string{"the body"}},

		{"Null", "null", 422, []string{"/customer/name", "/items"}},
		{"Array", "[]", 400, []string{"the body", "array"}},
		{"String", `"order"`, 400, []string{"the body", "string"}},
		{"Number", "1", 400, []string{"the body", "number"}},
		{"CustomerIsString", shoptest.Body(map[string]any{"customer": "Robin"}), 400, []string{"customer", "string"}},
		{"NameIsNumber", shoptest.Body(map[string]any{"customer.name": 1}), 400, []string{"/customer/name must not be a number"}},
		{"EmailIsArray", shoptest.Body(map[string]any{"customer.email": []string{"robin@example.com"}}), 400, []string{"/customer/email must not be an array"}},
		{"ItemsIsObject", shoptest.Body(map[string]any{"items": map[string]any{}}), 400, []string{"items", "object"}},
		{"ItemIsString", shoptest.Body(map[string]any{"items.0": "TRAIL-MAP"}), 400, []string{"items", "string"}},
		{"SKUIsNumber", shoptest.Body(map[string]any{"items.0.sku": 1}), 400, []string{"/items/0/sku", "number"}},
		{"QuantityIsString", shoptest.Body(map[string]any{"items.0.quantity": "2"}), 400, []string{"/items/0/quantity", "string"}},
		{"QuantityIsBool", shoptest.Body(map[string]any{"items.0.quantity": true}), 400, []string{"/items/0/quantity", "true"}},
		{"QuantityIsFraction", raw(quantity, `"quantity":1.5`), 400, []string{"/items/0/quantity", "1.5"}},
		{"QuantityIsSmallFraction", raw(quantity, `"quantity":1.00000001`), 400, []string{"/items/0/quantity", "1.00000001"}},
		{"QuantityIsHugeExponent", raw(quantity, `"quantity":1e400`), 400, []string{"/items/0/quantity", "1e400"}},
		{"QuantityOverflows", raw(quantity, `"quantity":9223372036854775808`), 400, []string{"/items/0/quantity", "9223372036854775808"}},
		{"QuantityIsEndless", raw(quantity, `"quantity":`+strings.Repeat("9", 40000)), 400, []string{"/items/0/quantity"}},
		{"PaymentIsString", shoptest.Body(map[string]any{"payment": "tok_ok"}), 400, []string{"payment", "string"}},
		{"TokenIsObject", shoptest.Body(map[string]any{"payment.token": map[string]any{}}), 400, []string{"/payment/token", "object"}},
		{"ShippingIsString", shoptest.Body(map[string]any{"shipping": "here"}), 400, []string{"shipping", "string"}},
		{"AddressIsNumber", shoptest.Body(map[string]any{"shipping.address": 1}), 400, []string{"/shipping/address", "number"}},

		{"CustomerIsNull", shoptest.Body(map[string]any{"customer": nil}), 422, []string{"/customer/name: is missing", "/customer/email: is missing"}},
		{"NameIsNull", shoptest.Body(map[string]any{"customer.name": nil}), 422, []string{"/customer/name: is missing"}},
		{"ItemsIsNull", shoptest.Body(map[string]any{"items": nil}), 422, []string{"/items: is missing"}},
		{"ItemIsNull", shoptest.Body(map[string]any{"items.1": nil}), 422, []string{"/items/1/sku", "/items/1/quantity"}},
		{"QuantityIsNull", shoptest.Body(map[string]any{"items.0.quantity": nil}), 422, []string{"/items/0/quantity: is 0"}},
		{"AllMissing", "{}", 422, []string{"/customer/name", "/customer/email", "/payment/token", "/shipping/address", "/items"}},
		{"NoCustomer", shoptest.Body(map[string]any{"customer": shoptest.Absent{}}), 422, []string{"/customer/name: is missing"}},
		{"NoName", shoptest.Body(map[string]any{"customer.name": shoptest.Absent{}}), 422, []string{"/customer/name: is missing"}},
		{"NoEmail", shoptest.Body(map[string]any{"customer.email": shoptest.Absent{}}), 422, []string{"/customer/email: is missing"}},
		{"NoItems", shoptest.Body(map[string]any{"items": shoptest.Absent{}}), 422, []string{"/items: is missing"}},
		{"EmptyItems", shoptest.Body(map[string]any{"items": []any{}}), 422, []string{"/items: is missing"}},
		{"NoSKU", shoptest.Body(map[string]any{"items.0.sku": shoptest.Absent{}}), 422, []string{"/items/0/sku"}},
		{"NoQuantity", shoptest.Body(map[string]any{"items.0.quantity": shoptest.Absent{}}), 422, []string{"/items/0/quantity"}},
		{"NoPayment", shoptest.Body(map[string]any{"payment": shoptest.Absent{}}), 422, []string{"/payment/token: is missing"}},
		{"NoToken", shoptest.Body(map[string]any{"payment.token": shoptest.Absent{}}), 422, []string{"/payment/token: is missing"}},
		{"NoShipping", shoptest.Body(map[string]any{"shipping": shoptest.Absent{}}), 422, []string{"/shipping/address: is missing"}},
		{"NoAddress", shoptest.Body(map[string]any{"shipping.address": shoptest.Absent{}}), 422, []string{"/shipping/address: is missing"}},
		{"InvisibleName", shoptest.Body(map[string]any{"customer.name": "\u200b"}), 422, []string{"/customer/name: is missing"}},
		{"FillerName", shoptest.Body(map[string]any{"customer.name": "\u3164\u2800\ufeff\u00ad"}), 422, []string{"/customer/name: is missing"}},
		{"MarkWithoutLetter", shoptest.Body(map[string]any{"customer.name": "\u0301\ufe0f"}), 422, []string{"/customer/name: is missing"}},
		{"ReversedName", shoptest.Body(map[string]any{"customer.name": "Robin \u202eelpmaxE"}), 422, []string{"/customer/name", "not text"}},
		{"PrivateUseToken", shoptest.Body(map[string]any{"payment.token": "tok_\ue000"}), 422, []string{"/payment/token", "not text"}},
		{"NoncharacterAddress", shoptest.Body(map[string]any{"shipping.address": "1 Way \ufffe"}), 422, []string{"/shipping/address", "not text"}},
		{"TwoLinesAddress", shoptest.Body(map[string]any{"shipping.address": "1 Way\u2028Sampleton"}), 422, []string{"/shipping/address", "not text"}},
		{"BlankName", shoptest.Body(map[string]any{"customer.name": " \u00a0 "}), 422, []string{"/customer/name: is missing"}},

		{"Twice", raw(quantity, quantity+",\t"+quantity), 400, []string{"/items/0/quantity", "twice"}},
		{"OtherCase", raw(quantity, `"QUANTITY":2`), 400, []string{`unknown field "QUANTITY"`}},
		{"UnknownField", shoptest.Body(map[string]any{"coupon": "FREE"}), 400, []string{`unknown field "coupon"`}},
		{"UnknownFieldWithin", shoptest.Body(map[string]any{"items.0.unit_price": 1}), 400, []string{`unknown field "unit_price"`}},
		{"UnknownFieldHash", shoptest.Body(map[string]any{"hash": "x"}), 400, []string{`unknown field "hash"`}},
		{"UnknownLongField", shoptest.Body(map[string]any{long(50000): 1}), 400, []string{"unknown field"}},

		{"EmailWithoutAt", shoptest.Body(map[string]any{"customer.email": "robin"}), 422, []string{"/customer/email"}},
		{"EmailWithoutHost", shoptest.Body(map[string]any{"customer.email": "robin@"}), 422, []string{"/customer/email"}},
		{"EmailWithoutName", shoptest.Body(map[string]any{"customer.email": "@example.com"}), 422, []string{"/customer/email"}},
		{"EmailTwice", shoptest.Body(map[string]any{"customer.email": "robin@example.com, eve@example.com"}), 422, []string{"/customer/email"}},
		{"EmailWithSpace", shoptest.Body(map[string]any{"customer.email": "ro bin@example.com"}), 422, []string{"/customer/email"}},
		{"EmailWithOuterSpace", shoptest.Body(map[string]any{"customer.email": " robin@example.com"}), 422, []string{"/customer/email"}},
		{"EmailInBrackets", shoptest.Body(map[string]any{"customer.email": "<robin@example.com>"}), 422, []string{"/customer/email"}},
		{"EmailWithName", shoptest.Body(map[string]any{"customer.email": "Robin <robin@example.com>"}), 422, []string{"/customer/email"}},
		{"EmailWithComment", shoptest.Body(map[string]any{"customer.email": "robin@example.com (Robin)"}), 422, []string{"/customer/email"}},
		{"EmailWithTwoAts", shoptest.Body(map[string]any{"customer.email": "robin@example@com"}), 422, []string{"/customer/email"}},
		{"EmailWithDots", shoptest.Body(map[string]any{"customer.email": "robin..x@example.com"}), 422, []string{"/customer/email"}},
		{"EmailQuoted", shoptest.Body(map[string]any{"customer.email": `"robin x"@example.com`}), 422, []string{"/customer/email"}},

		{"NameWithLineBreak", shoptest.Body(map[string]any{"customer.name": "Robin\r\nBcc: eve@example.com"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithLineFeed", shoptest.Body(map[string]any{"customer.name": "Robin\nBcc: eve@example.com"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithNUL", shoptest.Body(map[string]any{"customer.name": "Robin\x00"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithEscape", shoptest.Body(map[string]any{"customer.name": "\x1b[31mRobin"}), 422, []string{"/customer/name", "control character"}},
		{"NameWithNextLine", shoptest.Body(map[string]any{"customer.name": "Robin\u0085Eve"}), 422, []string{"/customer/name", "control character"}},
		{"EmailWithLineBreak", shoptest.Body(map[string]any{"customer.email": "robin@example.com\r\nBcc: eve@example.com"}), 422, []string{"/customer/email", "control character"}},
		{"TokenWithLineBreak", shoptest.Body(map[string]any{"payment.token": "tok_ok\r\n"}), 422, []string{"/payment/token", "control character"}},
		{"AddressWithLineBreak", shoptest.Body(map[string]any{"shipping.address": "1 Way\r\nSubject: x"}), 422, []string{"/shipping/address", "control character"}},

		{"LongName", shoptest.Body(map[string]any{"customer.name": strings.Repeat("ä", 201)}), 422, []string{"/customer/name", "201", "200"}},
		{"LongEmail", shoptest.Body(map[string]any{"customer.email": long(250) + "@example.com"}), 422, []string{"/customer/email", "262", "254"}},
		{"LongEmailInBytes", shoptest.Body(map[string]any{"customer.email": "robin@" + strings.Repeat("ä", 121) + ".example"}), 422, []string{"/customer/email", "254"}},
		{"LongLocalPart", shoptest.Body(map[string]any{"customer.email": long(65) + "@example.com"}), 422, []string{"/customer/email", "64"}},
		{"LongToken", shoptest.Body(map[string]any{"payment.token": long(101)}), 422, []string{"/payment/token", "101", "100"}},
		{"LongAddress", shoptest.Body(map[string]any{"shipping.address": long(501)}), 422, []string{"/shipping/address", "501", "500"}},

		{"QuantityZero", shoptest.Body(map[string]any{"items.0.quantity": 0}), 422, []string{"/items/0/quantity: is 0", "1 to 1000"}},
		{"QuantityNegative", shoptest.Body(map[string]any{"items.1.quantity": -1}), 422, []string{"/items/1/quantity: is -1"}},
		{"QuantityTooLarge", shoptest.Body(map[string]any{"items.0.quantity": 1001}), 422, []string{"/items/0/quantity: is 1001"}},
		{"QuantityHuge", raw(quantity, `"quantity":9223372036854775807`), 422, []string{"/items/0/quantity"}},
		{"QuantityLowest", raw(quantity, `"quantity":-9223372036854775808`), 422, []string{"/items/0/quantity"}},
		{"UnknownSKU", shoptest.Body(map[string]any{"items.1.sku": "SUBMARINE"}), 422, []string{"/items/1/sku", "SUBMARINE"}},
		{"SKUInOtherCase", shoptest.Body(map[string]any{"items.1.sku": "compass"}), 422, []string{"/items/1/sku", "compass"}},
		{"SKUWithWildcard", shoptest.Body(map[string]any{"items.1.sku": "*"}), 422, []string{"/items/1/sku"}},
		{"LongSKU", shoptest.Body(map[string]any{"items.1.sku": long(50000)}), 422, []string{"/items/1/sku"}},
		{"DuplicateSKU", shoptest.Body(map[string]any{"items.1.sku": "TRAIL-MAP"}), 422, []string{"/items/1/sku", "/items/0"}},
		{"TooManyItems", shoptest.Body(map[string]any{"items": items(51)}), 422, []string{"/items: has 51 entries, 50 are allowed"}},
		{"ThousandsOfItems", raw(`"items":[`, `"items":[`+strings.Repeat("{},", 15000)), 422, []string{"/items: has 15002 entries, 50 are allowed"}},
		{"SeveralFaults", shoptest.Body(map[string]any{"customer.name": "", "items.0.quantity": 0, "shipping.address": "\t1"}), 422,
			[]string{"/customer/name", "/items/0/quantity", "/shipping/address"}},

		{"Oversize", strings.TrimSuffix(shoptest.Body(nil), "}") + strings.Repeat(" ", 64<<10) + "}", 413, []string{"the body is larger than 65536 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.MustPost(t, tc.body)
			faults := a.WantProblem(t, tc.status, tc.says...)
			if tc.status == http.StatusUnprocessableEntity && len(faults) == 0 {
				t.Errorf("the problem %s lists no errors", a.Content)
			}
			if most := 4 << 10; len(a.Content) > most {
				t.Errorf("the answer has %d bytes, want %d at most", len(a.Content), most)
			}
		})
	}

	t.Run("OversizeInChunks", func(t *testing.T) {
		r, err := http.NewRequest(http.MethodPost, s.URL+"/orders", struct{ *strings.Reader }{strings.NewReader(shoptest.Body(nil) + strings.Repeat(" ", 64<<10))})
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength, r.Header = -1, shoptest.JSON()
		response, err := s.Client.Do(r)
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
			s.MustDo(t, http.MethodPost, "/orders", shoptest.Body(nil), header).WantProblem(t, http.StatusUnsupportedMediaType, "Content-Type", "application/json")
		})
	}
	t.Run("Compressed", func(t *testing.T) {
		s.MustPost(t, shoptest.Body(nil), "Content-Encoding", "gzip").WantProblem(t, http.StatusUnsupportedMediaType, "Content-Encoding", "gzip")
	})
	for name, keys := range map[string][]string{
		"EmptyKey": {""}, "LongKey": {long(256)}, "KeyWithSpace": {"a b"}, "KeyNotASCII": {"schlüssel"}, "KeyWithTab": {"a\tb"},
		"TwoKeys": {"a", "b"}, "SameKeyTwice": {"a", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			header := shoptest.JSON()
			header["Idempotency-Key"] = keys
			s.MustDo(t, http.MethodPost, "/orders", shoptest.Body(nil), header).WantProblem(t, http.StatusBadRequest, "Idempotency-Key")
		})
	}
	if got := s.MustLast(t); got != last {
		t.Errorf("the stream ends at %d, want %d: something was stored", got, last)
	}
}

// Values at the bounds are accepted.
func TestPostAccepts(t *testing.T) {
	t.Parallel()
	s := open(t)
	raw := func(quantity string) string { return strings.Replace(shoptest.Body(nil), `"quantity":2`, quantity, 1) }
	for _, tc := range []struct{ name, body string }{
		{"LongestName", shoptest.Body(map[string]any{"customer.name": strings.Repeat("ä", 200)})},
		{"LongestAddress", shoptest.Body(map[string]any{"shipping.address": strings.Repeat("x", 500)})},
		{"LongestToken", shoptest.Body(map[string]any{"payment.token": strings.Repeat("x", 100)})},
		{"LargestQuantity", shoptest.Body(map[string]any{"items.0.quantity": 1000})},
		{"OneItem", shoptest.Body(map[string]any{"items": []any{map[string]any{"sku": "LAST-ONE", "quantity": 1}}})},
		{"QuantityWithFractionZero", raw(`"quantity":2.0`)},
		{"QuantityWithExponent", raw(`"quantity":0.2e1`)},
		{"NameWithJoiner", shoptest.Body(map[string]any{"customer.name": "👩\u200d🌾 می\u200cخواهم"})},
		{"LongestLocalPart", shoptest.Body(map[string]any{"customer.email": strings.Repeat("x", 64) + "@example.com"})},
		{"Surrounded", "\r\n\t " + shoptest.Body(nil) + " \n"},
		{"NameOfAnyScript", shoptest.Body(map[string]any{"customer.name": "Þórunn O’Neill-李 🥾"})},
		{"PlusInEmail", shoptest.Body(map[string]any{"customer.email": "robin+trail@example.com"})},
		{"LargestBody", shoptest.Body(nil) + strings.Repeat(" ", 64<<10-len(shoptest.Body(nil)))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.MustPost(t, tc.body).WantStatus(t, http.StatusAccepted)
		})
	}
	t.Run("Charset", func(t *testing.T) {
		header := http.Header{"Content-Type": {"Application/JSON; charset=utf-8"}}
		s.MustDo(t, http.MethodPost, "/orders", shoptest.Body(nil), header).WantStatus(t, http.StatusAccepted)
	})
	t.Run("LongestKey", func(t *testing.T) {
		s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", strings.Repeat("~", 255)).WantStatus(t, http.StatusAccepted)
	})
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", "key-1")
	first.WantStatus(t, http.StatusAccepted)
	order := first.MustOrder(t)
	last := s.MustLast(t)

	t.Run("SameBody", func(t *testing.T) {
		again := s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", "key-1")
		again.WantStatus(t, http.StatusAccepted)
		if got := again.MustOrder(t); got.ID != order.ID || got.Events[0] != withTime(order.Events[0], got.Events[0].Time) {
			t.Errorf("the second answer is %+v, want order %s", got, order.ID)
		}
		if got, want := again.Header.Get("Location"), first.Header.Get("Location"); got != want {
			t.Errorf("Location = %q, want %q", got, want)
		}
		systemtest.Until(t, "a span says that the request was repeated", func() bool {
			return slices.ContainsFunc(s.Spans.Ended(), func(span sdktrace.ReadOnlySpan) bool {
				attributes := attribute.NewSet(span.Attributes()...)
				repeated, _ := attributes.Value("order.repeated_request")
				id, _ := attributes.Value(event.OrderIDKey)
				return repeated.AsBool() && id.AsString() == order.ID
			})
		})
	})
	t.Run("OtherBody", func(t *testing.T) {
		s.MustPost(t, shoptest.Body(map[string]any{"items.0.quantity": 3}), "Idempotency-Key", "key-1").WantProblem(t, http.StatusUnprocessableEntity, "Idempotency-Key")
		s.MustPost(t, shoptest.Body(nil)+" ", "Idempotency-Key", "key-1").WantProblem(t, http.StatusUnprocessableEntity, "Idempotency-Key")
	})
	t.Run("RefusedBodyUsesUpNothing", func(t *testing.T) {
		s.MustPost(t, "{}", "Idempotency-Key", "key-3").WantProblem(t, http.StatusUnprocessableEntity)
	})
	if got := s.MustLast(t); got != last {
		t.Errorf("the stream ends at %d, want %d: a repeated request was stored", got, last)
	}
	t.Run("OtherKey", func(t *testing.T) {
		for _, key := range []string{"key-2", "key-3", "KEY-1"} {
			if got := s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", key).MustOrder(t); got.ID == order.ID {
				t.Errorf("key %s leads to the order of key-1", key)
			}
		}
	})
	t.Run("AfterwardsShowsWhatBecameOfIt", func(t *testing.T) {
		s.MustPublish(t, event.FulfillmentShipped, conclusion(order.ID, ""))
		if got := s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", "key-1").MustOrder(t); got.State != orders.StateShipped {
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
		return http.MethodPost, "/orders", shoptest.Body(nil), shoptest.JSON("Idempotency-Key", "one")
	})
	ids := map[string]bool{}
	for _, a := range answers {
		a.WantStatus(t, http.StatusAccepted)
		ids[a.MustOrder(t).ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("%d orders were answered, want 1", len(ids))
	}
	if got := s.MustLast(t); got != 1 {
		t.Errorf("%d events were stored, want 1", got)
	}
}
