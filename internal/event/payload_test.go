package event_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"example.org/ordertrail/internal/event"
)

// A mail that is to be tried again has been tried before, not less than never.
func TestDecodeMailRetry(t *testing.T) {
	for data, ok := range map[string]bool{
		`"since":"2026-01-02T03:04:05Z","tries":0`:  true,
		`"since":"2026-01-02T03:04:05Z","tries":-5`: false,
		`"since":"2226-01-02T03:04:05Z","tries":1`:  false,
	} {
		typ := event.MailDue(event.NotifyReceived)
		_, err := event.Decode[event.MailRetry](event.Event{Type: typ, Key: order, Subject: typ.Subject(order), Data: []byte(`{"order_id":"` + order + `",` + data + "}")})
		if (err == nil) != ok {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func TestDecode(t *testing.T) {
	created := func(data string) event.Event {
		return event.Event{Type: event.OrderCreated, Key: order, Subject: event.OrderCreated.Subject(order), Data: []byte(data)}
	}
	t.Run("OK", func(t *testing.T) {
		for _, d := range drafts() {
			m := MustMessage(t, d)
			e, err := event.Check(m.Subject, m.Header, m.Data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(e)
			if err != nil {
				t.Errorf("Decode %s: %v", d.Type, err)
				continue
			}
			if again, err := json.Marshal(got); err != nil || string(again) != string(m.Data) {
				t.Errorf("Decode %s gives %s (%v), want %s", d.Type, again, err, m.Data)
			}
		}
	})
	item := `{"sku":"COMPASS","quantity":1,"unit_price":{"amount":1,"currency":"EUR"}}`
	for name, data := range map[string]string{
		"Empty":            ``,
		"Zeros":            strings.Repeat("\x00", 100<<10),
		"Null":             `null`,
		"NotAnObject":      `[]`,
		"NoKey":            `{"items":[` + item + `]}`,
		"AnotherOrder":     `{"order_id":"` + other + `","items":[` + item + `]}`,
		"WrongType":        `{"order_id":"` + order + `","items":"none"}`,
		"Trailing":         `{"order_id":"` + order + `","items":[` + item + `]} {}`,
		"NoItems":          `{"order_id":"` + order + `","items":[]}`,
		"ItemsNull":        `{"order_id":"` + order + `","items":null}`,
		"ItemNull":         `{"order_id":"` + order + `","items":[null]}`,
		"ZeroQuantity":     `{"order_id":"` + order + `","items":[{"sku":"COMPASS","quantity":0}]}`,
		"NegativeQuantity": `{"order_id":"` + order + `","items":[{"sku":"COMPASS","quantity":-1}]}`,
		"HugeQuantity":     `{"order_id":"` + order + `","items":[{"sku":"COMPASS","quantity":9223372036854775807}]}`,
		"Twice":            `{"order_id":"` + order + `","items":[` + item + `],"items":[` + item + `]}`,
		"OtherCase":        `{"order_id":"` + order + `","ITEMS":[` + item + `]}`,
		"NotUTF8":          `{"order_id":"` + order + `","items":[` + strings.Replace(item, "COMPASS", "\xff", 1) + `]}`,
		"FractionalAmount": `{"order_id":"` + order + `","total":{"amount":1.5}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := event.Decode[event.Created](created(data)); !errors.Is(err, event.ErrForeign) {
				t.Errorf("Decode = %+v, %v, want ErrForeign", p, err)
			}
		})
	}
	t.Run("UnknownMember", func(t *testing.T) { // of a newer version
		p, err := event.Decode[event.Created](created(`{"order_id":"` + order + `","gift":true,"items":[` + item + `]}`))
		if err != nil || len(p.Items) != 1 {
			t.Errorf("Decode = %+v, %v", p, err)
		}
	})
	t.Run("NegativeStock", func(t *testing.T) {
		e := event.Event{Key: "COMPASS", Data: []byte(`{"sku":"COMPASS","quantity":-1}`)}
		if p, err := event.Decode[event.Stock](e); !errors.Is(err, event.ErrForeign) {
			t.Errorf("Decode = %+v, %v, want ErrForeign", p, err)
		}
	})
}

// The sum of an order's quantities fits an int: an overflow would be less than the stock.
func TestDecodeQuantitiesAddUp(t *testing.T) {
	half := math.MaxInt/2 + 1
	d := event.Draft{Type: event.InventoryReserved, Payload: event.Reservation{
		OrderKey: event.OrderKey{OrderID: order},
		Items:    []event.Item{{SKU: "COMPASS", Quantity: half}, {SKU: "COMPASS", Quantity: half}},
	}}
	m := MustMessage(t, d)
	e, err := event.Check(m.Subject, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := event.Decode[event.Reservation](e); !errors.Is(err, event.ErrForeign) {
		t.Errorf("Decode = %+v, %v, want ErrForeign", p, err)
	}
}

// decode reads an event's payload as the type that its subject stands for.
func decode(e event.Event) (event.Payload, error) {
	switch e.Type {
	case event.OrderCreated:
		return event.Decode[event.Created](e)
	case event.OrderCancelled:
		return event.Decode[event.Refused](e)
	case event.PaymentConfirmed, event.PaymentRefunded:
		return event.Decode[event.Charge](e)
	case event.PaymentDeclined, event.InventoryRejected:
		return event.Decode[event.Refused](e)
	case event.InventoryReserved, event.InventoryReleased:
		return event.Decode[event.Reservation](e)
	case event.FulfillmentShipped, event.FulfillmentCancelled:
		return event.Decode[event.Conclusion](e)
	case event.StockAdded:
		return event.Decode[event.Stock](e)
	case event.StockLease:
		return event.Decode[event.Lease](e)
	case event.MailDue(event.NotifyReceived):
		return event.Decode[event.MailRetry](e)
	default:
		return event.Decode[event.MailSent](e)
	}
}
