package event_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
)

const (
	order = "019a0000-0000-7000-8000-000000000001"
	other = "019a0000-0000-7000-8000-000000000002"
)

// drafts holds one draft of every type there is.
func drafts() []event.Draft {
	key := event.OrderKey{OrderID: order}
	eur := event.Money{Amount: 3440, Currency: "EUR"}
	customer := event.Customer{Name: "Robin Example", Email: "robin@example.com"}
	items := []event.Item{{SKU: "COMPASS", Quantity: 2, UnitPrice: eur}}
	charge := event.Charge{OrderKey: key, ChargeID: "ch_1", Amount: eur}
	refused := event.Refused{OrderKey: key, Reason: event.ReasonOutOfStock}
	reservation := event.Reservation{OrderKey: key, Items: items}
	conclusion := event.Conclusion{OrderKey: key, Customer: customer, Items: items, Total: eur}
	mail := event.MailSent{OrderKey: key, MessageID: "1@ordertrail.example", Channel: "smtp"}
	return []event.Draft{
		{Type: event.OrderCreated, Payload: event.Created{
			OrderKey: key, Customer: customer, Items: items, Total: eur,
			CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		}},
		{Type: event.OrderCancelled, Payload: event.Refused{OrderKey: key, Reason: event.ReasonCustomer}},
		{Type: event.PaymentConfirmed, Payload: charge},
		{Type: event.PaymentDeclined, Payload: refused},
		{Type: event.PaymentRefunded, Payload: charge},
		{Type: event.InventoryReserved, Payload: reservation},
		{Type: event.InventoryRejected, Payload: refused},
		{Type: event.InventoryReleased, Payload: reservation},
		{Type: event.FulfillmentShipped, Payload: conclusion},
		{Type: event.FulfillmentCancelled, Payload: conclusion},
		{Type: event.NotifyReceived, Payload: mail},
		{Type: event.NotifyShipped, Payload: mail},
		{Type: event.NotifyCancelled, Payload: mail},
		{Type: event.NotifyRefunded, Payload: mail},
		{Type: event.MailDue(event.NotifyReceived), Payload: event.MailRetry{OrderKey: key, Since: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Tries: 3}},
		{Type: event.StockAdded, Payload: event.Stock{SKU: "COMPASS", Quantity: 7}},
		{Type: event.StockLease, Payload: event.Lease{Name: event.LeaseKey, Holder: "inventory-1"}},
	}
}

func MustMessage(tb testing.TB, d event.Draft) *nats.Msg {
	tb.Helper()
	m, err := d.Message(time.Date(2026, 1, 2, 4, 4, 5, 0, time.FixedZone("CET", 3600)))
	if err != nil {
		tb.Fatalf("message of %s: %v", d.Type, err)
	}
	return m
}

// Every event is a CloudEvent in binary mode whose id is its subject, and Check returns it
// unchanged.
func TestDraftMessage(t *testing.T) {
	for _, d := range drafts() {
		t.Run(string(d.Type), func(t *testing.T) {
			m := MustMessage(t, d)
			key := d.Payload.Key()
			if got, want := m.Subject, string(d.Type)+"."+key; got != want {
				t.Errorf("subject = %q, want %q", got, want)
			}
			source := "/ordertrail/" + d.Type.Domain()
			switch d.Type.Domain() {
			case "stock":
				source = "/ordertrail/inventory"
			case "mails":
				source = "/ordertrail/notify"
			}
			want := map[string]string{
				"ce-specversion": "1.0", "ce-id": m.Subject, "ce-source": source, "ce-type": string(d.Type),
				"ce-time": "2026-01-02T03:04:05Z", "content-type": "application/json",
			}
			if len(m.Header) != len(want) {
				t.Errorf("headers = %v, want %d of them", m.Header, len(want))
			}
			for name, value := range want {
				if got := m.Header[name]; len(got) != 1 || got[0] != value {
					t.Errorf("header %s = %q, want %q", name, got, value)
				}
			}
			e, err := event.Check(m.Subject, m.Header, m.Data)
			if err != nil {
				t.Fatalf("Check: %v", err)
			}
			if e.Type != d.Type || e.Key != key || e.Subject != m.Subject || string(e.Data) != string(m.Data) {
				t.Errorf("Check = %+v, want type %s and key %s", e, d.Type, key)
			}
			if again := MustMessage(t, d); again.Subject != m.Subject || string(again.Data) != string(m.Data) {
				t.Errorf("the second message differs: %s %s, want %s %s", again.Subject, again.Data, m.Subject, m.Data)
			}
		})
	}
}

// Message refuses a draft that Check would refuse.
func TestDraftMessageRefuses(t *testing.T) {
	for name, d := range map[string]event.Draft{
		"NoOrderID":      {Type: event.OrderCreated, Payload: event.Created{}},
		"NotAUUIDv7":     {Type: event.OrderCreated, Payload: event.Created{OrderKey: event.OrderKey{OrderID: "7c9e6679-7425-40de-944b-e07fc1f90ae7"}}},
		"WildcardKey":    {Type: event.StockAdded, Payload: event.Stock{SKU: "*"}},
		"KeyOfTwoTokens": {Type: event.StockAdded, Payload: event.Stock{SKU: "A.B"}},
		"EmptyKey":       {Type: event.StockAdded, Payload: event.Stock{}},
		"UnknownType":    {Type: "orders.invented", Payload: event.OrderKey{OrderID: order}},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := d.Message(time.Time{}); err == nil {
				t.Errorf("message on %s, want an error", m.Subject)
			}
		})
	}
}

func TestParseSubject(t *testing.T) {
	for _, subject := range []string{
		"", ".", "..", "orders", "orders.created", "orders.created.", "orders.created." + order + ".", "orders.created." + order + ".x",
		"orders.created.*", "orders.created.>", "orders.created." + strings.ToUpper("019a0000-0000-7000-8000-00000000000a"),
		"orders.created.{" + order + "}", "orders.created.urn:uuid:" + order, "orders.created." + strings.ReplaceAll(order, "-", ""),
		"orders.created.7c9e6679-7425-40de-944b-e07fc1f90ae7", // version 4
		"orders.created.019a0000-0000-7000-0000-000000000001", // another variant
		"Orders.created." + order, "orders.Created." + order, "payments.created." + order, " orders.created." + order,
		"redrive.payments.orders.created." + order, "mails.due." + order, "mails.due.sent." + order, "mails.received." + order, "$JS.ACK.ORDERS.payments.1.1.1.1.0", "_INBOX.orders.x.y",
		"stock.added.", "stock.added.A B", "stock.added.A.B", "stock.added.*", "stock.added.>", "stock.added.A\r\nB", "stock.removed.A",
	} {
		if typ, key, err := event.ParseSubject(subject); err == nil {
			t.Errorf("ParseSubject(%q) = %s, %s, want an error", subject, typ, key)
		}
	}
	for _, d := range drafts() {
		typ, key, err := event.ParseSubject(d.Subject())
		if err != nil || typ != d.Type || key != d.Payload.Key() {
			t.Errorf("ParseSubject(%q) = %q, %q, %v, want %q, %q", d.Subject(), typ, key, err, d.Type, d.Payload.Key())
		}
	}
}

func TestNewOrderID(t *testing.T) {
	before := ""
	for range 1000 {
		id := event.NewOrderID()
		if !event.IsOrderID(id) {
			t.Fatalf("IsOrderID(%q) = false", id)
		}
		if id <= before {
			t.Fatalf("%s came after %s, want ascending ids", id, before)
		}
		before = id
	}
}

func TestTemplate(t *testing.T) {
	for subject, want := range map[string]string{
		"orders.created." + order:         "orders.created.{order_id}",
		"fulfillment.shipped." + order:    "fulfillment.shipped.{order_id}",
		"stock.added.COMPASS":             "stock.added.{key}",
		"stock.lease.main":                "stock.lease.{key}",
		"":                                "",
		"orders":                          "",
		"orders.created":                  "",
		"_INBOX.orders.abc":               "",
		"redrive.notify.orders.created.x": "redrive.notify.orders.created.{order_id}",
		"redrive.notify.what.ever.x":      "",
		"redrive.notify":                  "",
		"deadlines.at." + order:           "deadlines.at.{order_id}",
		"deadlines.due." + order:          "deadlines.due.{order_id}",
		"mails.at.received." + order:      "mails.at.received.{order_id}",
		"mails.due.refunded." + order:     "mails.due.refunded.{order_id}",
		"mails.due." + order:              "",
		"$JS.API.DIRECT.GET.ORDERS":       "",
		"deadletters.payments.42":         "deadletters.payments.{sequence}",
		"deadletters.payments.42.1":       "",
		"deadletters.payments":            "",
	} {
		if got := event.Template(subject); got != want {
			t.Errorf("Template(%q) = %q, want %q", subject, got, want)
		}
	}
}

// A message that its publisher did not publish on this subject is foreign.
func TestCheckForeign(t *testing.T) {
	subject := event.OrderCreated.Subject(order)
	for name, tc := range map[string]struct {
		subject string
		header  nats.Header
	}{
		"NilHeader":            {subject, nil},
		"NoID":                 {subject, nats.Header{"ce-type": {"orders.created"}}},
		"IDWithoutValue":       {subject, nats.Header{"ce-id": {}}},
		"EmptyID":              {subject, nats.Header{"ce-id": {""}}},
		"AnotherOrder":         {subject, nats.Header{"ce-id": {event.OrderCreated.Subject(other)}}},
		"AnotherEvent":         {subject, nats.Header{"ce-id": {event.OrderCancelled.Subject(order)}}},
		"TwoIDs":               {subject, nats.Header{"ce-id": {subject, event.OrderCreated.Subject(other)}}},
		"TwoIDsRightOneLast":   {subject, nats.Header{"ce-id": {event.OrderCreated.Subject(other), subject}}},
		"SameIDTwice":          {subject, nats.Header{"ce-id": {subject, subject}}},
		"OtherCase":            {subject, nats.Header{"Ce-Id": {subject}}},
		"TrailingSpace":        {subject, nats.Header{"ce-id": {subject + " "}}},
		"NotAnEvent":           {"orders.invented." + order, nats.Header{"ce-id": {"orders.invented." + order}}},
		"NotAnOrder":           {"orders.created.1", nats.Header{"ce-id": {"orders.created.1"}}},
		"EmptySubject":         {"", nats.Header{"ce-id": {""}}},
		"SubjectOfOtherLength": {"orders.created." + order + ".x", nats.Header{"ce-id": {"orders.created." + order + ".x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := event.Check(tc.subject, tc.header, []byte(`{"order_id":"`+order+`"}`)); !errors.Is(err, event.ErrForeign) {
				t.Errorf("Check = %+v, %v, want ErrForeign", e, err)
			}
		})
	}
}

// A message whose payload is not about the key of its subject is foreign.
func TestCheckForeignPayload(t *testing.T) {
	stock, lease := event.StockAdded.Subject("COMPASS"), event.StockLease.Subject(event.LeaseKey)
	for _, tc := range []struct{ subject, data string }{
		{event.PaymentConfirmed.Subject(order), ``},
		{event.PaymentConfirmed.Subject(order), `null`},
		{event.PaymentConfirmed.Subject(order), `{}`},
		{event.PaymentConfirmed.Subject(order), `[]`},
		{event.PaymentConfirmed.Subject(order), "\x00\x00"},
		{event.PaymentConfirmed.Subject(order), `{"order_id":"` + other + `"}`},
		{event.PaymentConfirmed.Subject(order), `{"sku":"` + order + `"}`},
		{stock, `{"sku":"THERMOS","quantity":1}`},
		{stock, `{"order_id":"COMPASS"}`},
		{lease, `{"name":"other"}`},
	} {
		t.Run(tc.subject+" "+tc.data, func(t *testing.T) {
			if e, err := event.Check(tc.subject, nats.Header{"ce-id": {tc.subject}}, []byte(tc.data)); !errors.Is(err, event.ErrForeign) {
				t.Errorf("Check = %+v, %v, want ErrForeign", e, err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	events := []event.Event{{Type: event.OrderCreated, Sequence: 1}, {Type: event.PaymentConfirmed, Sequence: 2}}
	if e, ok := event.Find(events, event.PaymentConfirmed); !ok || e.Sequence != 2 {
		t.Errorf("Find = %+v, %t, want sequence 2", e, ok)
	}
	if e, ok := event.Find(events, event.PaymentDeclined); ok {
		t.Errorf("Find = %+v, want none", e)
	}
}
