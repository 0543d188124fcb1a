package orders

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/mail"
	"strings"
	"testing"
	"time"
	"unicode"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
)

// An accepted request can be placed: it makes an event that every service can read, with
// positive quantities and the right total. Encoded again it is the same request.
func FuzzParseRequest(f *testing.F) {
	const good = `{"customer":{"name":"Robin Example","email":"robin@example.com"},` +
		`"items":[{"sku":"TRAIL-MAP","quantity":2},{"sku":"COMPASS","quantity":1}],` +
		`"payment":{"token":"tok_ok"},"shipping":{"address":"1 Trailhead Way, 12345 Sampleton"}}`
	f.Add([]byte(good))
	for _, change := range [][2]string{
		{"Robin", `Rob\r\nin`}, {"Robin", "Rob\xff"}, {"Robin", `\ud800`}, {"robin@example.com", "Robin <robin@example.com>"},
		{`"quantity":2`, `"quantity":1001`}, {`"quantity":2`, `"quantity":9223372036854775807`}, {`"quantity":2`, `"quantity":1e1`},
		{"COMPASS", "TRAIL-MAP"}, {"COMPASS", "SUBMARINE"}, {`"customer"`, `"Customer"`}, {`"items":[`, `"items":[null,`}, {`{"token"`, `{"token":"a","token"`},
		{"}}", "}} x"}, {"{", "[{"},
	} {
		f.Add([]byte(strings.Replace(good, change[0], change[1], 1)))
	}
	for _, b := range []string{"", "null", "{}", "[]", "1", `"`, "\ufeff{}"} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRequest(body)
		if err == nil {
			err = r.check()
		}
		if err != nil {
			var why *respond.Error
			if !errors.As(err, &why) || why.Detail == "" || why.Status == http.StatusUnprocessableEntity && len(why.Fields) == 0 {
				t.Errorf("parseRequest refuses without a reason: %#v", err)
			}
			return
		}
		for name, text := range map[string]string{
			"name": r.Customer.Name, "email": r.Customer.Email, "token": r.Payment.Token, "address": r.Shipping.Address,
		} {
			if strings.TrimSpace(text) == "" || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("parseRequest accepts the %s %q", name, text)
			}
		}
		if a, err := mail.ParseAddress(r.Customer.Email); err != nil || a.Address != r.Customer.Email {
			t.Errorf("parseRequest accepts the mail address %q", r.Customer.Email)
		}

		id := event.NewOrderID()
		created := r.order(id, time.Now())
		m, err := event.Draft{Type: event.OrderCreated, Payload: created}.Message(time.Now())
		if err != nil {
			t.Fatalf("what parseRequest accepts cannot be published: %v", err)
		}
		e, err := event.Check(m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := event.Decode[event.Created](e); err != nil {
			t.Fatalf("what parseRequest accepts cannot be read by a consumer: %v", err)
		}
		total := int64(0)
		for _, i := range created.Items {
			if i.Quantity < 1 || i.UnitPrice.Amount < 1 {
				t.Errorf("the order has the item %+v", i)
			}
			total += i.UnitPrice.Amount * int64(i.Quantity)
		}
		if total < 1 || created.Total.Amount != total {
			t.Errorf("total = %d, want %d", created.Total.Amount, total)
		}

		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		same, err := parseRequest(again)
		if err != nil {
			t.Fatalf("parseRequest refuses what it has accepted, written anew as %s: %v", again, err)
		}
		if third, err := json.Marshal(same); err != nil || string(third) != string(again) {
			t.Errorf("written anew twice: %s (%v), want %s", third, err, again)
		}
	})
}
