package event_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
)

func FuzzParseSubject(f *testing.F) {
	for _, d := range drafts() {
		f.Add(d.Subject())
	}
	for _, s := range []string{"", ".", "orders.created.", "orders..created", "stock.added.*", "stock.added.A B", "stock.added.\xff", "redrive.a.b.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		typ, key, err := event.ParseSubject(subject)
		if err != nil {
			if typ != "" || key != "" {
				t.Errorf("ParseSubject(%q) = %q, %q with the error %v", subject, typ, key, err)
			}
			return
		}
		if got := typ.Subject(key); got != subject {
			t.Errorf("ParseSubject(%q) = %q, %q, which is subject %q", subject, typ, key, got)
		}
		if strings.Count(subject, ".") != strings.Count(string(typ), ".")+1 || strings.ContainsAny(subject, "*> \t\r\n") {
			t.Errorf("ParseSubject accepts %q, which cannot be published on or has more than one key", subject)
		}
		if typ.Domain() != "stock" && !event.IsOrderID(key) {
			t.Errorf("ParseSubject(%q) gives order id %q", subject, key)
		}
		if template := event.Template(subject); !strings.HasPrefix(template, string(typ)+".{") {
			t.Errorf("Template(%q) = %q, want one of %s", subject, template, typ)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, d := range drafts() {
		m, err := d.Message(drafts()[0].Payload.(event.Created).CreatedAt)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Subject, m.Subject, m.Data)
		f.Add(m.Subject, m.Subject, []byte("null"))
		f.Add(m.Subject, "", m.Data)
	}
	f.Add("stock.added.A", "stock.added.A", []byte(`{"sku":"A","quantity":-1}`))
	f.Add("inventory.reserved."+order, "inventory.reserved."+order, []byte(`{"order_id":"`+order+`","items":[{"quantity":9223372036854775807},{"quantity":1}]}`))
	f.Fuzz(func(t *testing.T, subject, id string, data []byte) {
		e, err := event.Check(subject, nats.Header{"ce-id": {id}}, data)
		if err != nil {
			if !errors.Is(err, event.ErrForeign) {
				t.Errorf("Check: %v, want ErrForeign", err)
			}
			return
		}
		if id != subject || e.Subject != subject || e.Type.Subject(e.Key) != subject {
			t.Errorf("Check accepts ce-id %q on %q as %q about %q", id, subject, e.Type, e.Key)
		}
		p, err := decode(e)
		if err != nil {
			if !errors.Is(err, event.ErrForeign) {
				t.Errorf("Decode: %v, want ErrForeign", err)
			}
			return
		}
		if p.Key() != e.Key {
			t.Errorf("Decode accepts %q about %q", data, p.Key())
		}
		var items []event.Item
		switch p := p.(type) {
		case event.Created:
			items = p.Items
		case event.Reservation:
			items = p.Items
		case event.Conclusion:
			items = p.Items
		case event.Stock:
			if p.Quantity < 0 {
				t.Errorf("Decode accepts %q: %d units", data, p.Quantity)
			}
			return
		default:
			return
		}
		if len(items) == 0 {
			t.Errorf("Decode accepts %q: no items", data)
		}
		for sum, i := 0, 0; i < len(items); i++ {
			before := sum
			if sum += items[i].Quantity; sum <= before {
				t.Errorf("Decode accepts %q: %d units make %d of %d", data, items[i].Quantity, sum, before)
			}
		}
		if m, err := (event.Draft{Type: e.Type, Payload: p}).Message(e.Time); err != nil || m.Subject != subject {
			t.Errorf("what Decode accepts cannot be published again: %v", err)
		}
	})
}
