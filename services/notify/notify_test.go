package notify_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/smtptest"
	"example.org/ordertrail/test/systemtest"
)

// In the whole system each customer gets each mail once, about their order.
func TestMails(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	sys := systemtest.Start(t, func(cfg *systemtest.Config) { cfg.Settings.SMTPURL = server.URL() })
	mails := map[event.Type]string{
		event.NotifyReceived: "We have received your order", event.NotifyShipped: "Your order is on its way",
		event.NotifyCancelled: "Your order was cancelled", event.NotifyRefunded: "Your money is on its way back",
	}
	expected := 0
	for name, texts := range map[string]map[event.Type]string{
		"happy":         {event.NotifyReceived: "34.40 EUR", event.NotifyShipped: "parcel_"},
		"sold-out":      {event.NotifyReceived: "", event.NotifyCancelled: "we do not have everything", event.NotifyRefunded: "29.40 EUR"},
		"declined":      {event.NotifyReceived: "", event.NotifyCancelled: "your card was declined"},
		"undeliverable": {event.NotifyReceived: "", event.NotifyCancelled: "can not deliver to your address", event.NotifyRefunded: ""},
	} {
		order, err := demo.Play(t.Context(), sys.Shop, systemtest.Scenario(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for fact, want := range texts {
			expected++
			found := sent(server, fact, order.ID)
			if len(found) != 1 {
				t.Errorf("%s: %d mails about %s, want 1", name, len(found), fact)
				continue
			}
			m := found[0]
			if m.To != "RCPT TO:<robin@example.com>" || m.Get("To") != `"Robin Example" <robin@example.com>` || m.Get("Subject") != mails[fact] {
				t.Errorf("%s: %s goes to %q, %q with the subject %q", name, fact, m.To, m.Get("To"), m.Get("Subject"))
			}
			for _, want := range []string{"Dear Robin Example,", "Order " + order.ID, want} {
				if body := text(t, m); !strings.Contains(body, want) {
					t.Errorf("%s: %q is not in %s: %q", name, want, fact, body)
				}
			}
		}
	}
	if got := len(server.Mails()); got != expected {
		t.Errorf("%d mails came in, want %d", got, expected)
	}
	for _, s := range sys.Spans.GetSpans() {
		if text := strings.ToLower(fmt.Sprint(s.Attributes, s.Events, s.Links, s.Status)); strings.Contains(text, "robin") {
			t.Errorf("span %s names the customer: %s", s.Name, text)
		}
	}
}

// A mail that the server defers is sent later, once.
func TestRetry(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	tries := 0
	a.mail.Script(func(command string) string {
		if strings.HasPrefix(command, "RCPT") {
			if tries++; tries <= 2 {
				return "450 4.2.0 greylisted, come back later"
			}
		}
		return ""
	})
	id := event.NewOrderID()
	a.MustPublish(t, event.OrderCreated, created(id))
	a.wantOne(t, id)
	if got, want := a.mail.Count("RCPT"), 3; got != want {
		t.Errorf("%d tries, want %d", got, want)
	}
	if got, want := a.failures(), 2; got != want {
		t.Errorf("%d tries failed, want %d", got, want)
	}
	e, _ := a.stored(t, event.NotifyReceived, id)
	fact, err := event.Decode[event.MailSent](e)
	if want := notify.MessageID(event.NotifyReceived, id); err != nil || fact.MessageID != want || fact.Channel != "smtp" {
		t.Errorf("fact = %+v, %v, want mail %s by smtp", fact, err, want)
	}
	if strings.Contains(string(e.Data), "robin") {
		t.Errorf("the fact names the customer: %s", e.Data)
	}
}

// A mail that is refused for good is given up, and the next one goes out.
func TestRefused(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	a.mail.Script(func(command string) string {
		if strings.HasPrefix(command, "RCPT") && strings.Contains(command, "gone") {
			return "550 5.1.1 no such mailbox"
		}
		return ""
	})
	gone := created(event.NewOrderID())
	gone.Customer.Email = "gone@example.com"
	a.MustPublish(t, event.OrderCreated, gone)
	a.settled(t)
	next := event.NewOrderID()
	a.MustPublish(t, event.OrderCreated, created(next))
	a.wantOne(t, next)
	if got, want := a.mail.Count("RCPT TO:<gone"), 1; got != want {
		t.Errorf("%d tries, want %d", got, want)
	}
	if _, ok := a.stored(t, event.NotifyReceived, gone.OrderID); ok {
		t.Error("the refused mail is recorded as sent")
	}
	letters := a.letters(t)
	if len(letters) != 1 || letters[0].Subject != event.OrderCreated.Subject(gone.OrderID) || letters[0].Deliveries != 1 {
		t.Errorf("dead letters: %+v, want one of the first delivery", letters)
	}
	if got := len(a.mail.Mails()); got != 1 {
		t.Errorf("%d mails came in, want 1", got)
	}
	if log := a.log.String(); strings.Contains(log, "gone@example.com") || !strings.Contains(log, "550") {
		t.Errorf("the log lacks the answer, or has the address: %s", log)
	}
}

// A mail server that is away is waited for.
func TestServerAway(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	a.mail.Stop()
	id := event.NewOrderID()
	a.MustPublish(t, event.OrderCreated, created(id))
	systemtest.Until(t, "two tries have failed", func() bool { return a.failures() >= 2 })
	if _, ok := a.stored(t, event.NotifyReceived, id); ok {
		t.Error("a mail is recorded as sent without a server")
	}
	a.mail.Listen()
	a.wantOne(t, id)
}

// While the stream cannot take the fact that a mail was sent, the mail is not sent
// again and again.
func TestFactCannotBeStored(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	s, err := a.JetStream().Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	limit := func(messages int64) {
		cfg := s.CachedInfo().Config
		cfg.MaxMsgs, cfg.Discard = messages, jetstream.DiscardNew
		if _, err := a.JetStream().UpdateStream(context.Background(), cfg); err != nil {
			t.Error(err)
		}
	}
	var once sync.Once
	a.mail.Script(func(command string) string {
		if strings.HasPrefix(command, "DATA") {
			once.Do(func() { limit(1) }) // as if the disk were full, after the event
		}
		return ""
	})
	id := event.NewOrderID()
	a.MustPublish(t, event.OrderCreated, created(id))
	systemtest.Until(t, "the fact could not be stored, twice", func() bool { return strings.Contains(a.log.String(), "tries=2") })
	if _, ok := a.stored(t, event.NotifyReceived, id); ok {
		t.Error("the stream was not full")
	}
	limit(-1)
	a.wantOne(t, id)
}

// An event whose mail the stream records sends none, as after a redelivery.
func TestSentAlready(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	id := event.NewOrderID()
	key := event.OrderKey{OrderID: id}
	conclusion := event.Conclusion{OrderKey: key, Customer: created(id).Customer, Items: created(id).Items}
	refund := event.Charge{OrderKey: key, Customer: &conclusion.Customer}
	for _, tc := range []struct {
		cause event.Type
		p     event.Payload
		fact  event.Type
	}{
		{event.OrderCreated, created(id), event.NotifyReceived},
		{event.FulfillmentShipped, conclusion, event.NotifyShipped},
		{event.FulfillmentCancelled, conclusion, event.NotifyCancelled},
		{event.PaymentRefunded, refund, event.NotifyRefunded},
	} {
		a.MustPublish(t, tc.fact, event.MailSent{OrderKey: key, MessageID: "before", Channel: "smtp"})
		a.MustPublish(t, tc.cause, tc.p)
	}
	a.settled(t)
	if got := a.mail.Count(""); got != 0 {
		t.Errorf("%d commands came in, want none", got)
	}
	for _, s := range a.Spans.GetSpans() {
		if s.Name == "send mail" {
			t.Error("there is a span about sending a mail")
		}
	}
}

// A message that is no fact, in the place of the fact that the mail was sent, does
// not have the mail sent again and again.
func TestForeignFact(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	id := event.NewOrderID()
	forged := &nats.Msg{Subject: event.NotifyReceived.Subject(id), Header: nats.Header{event.HeaderID: {"elsewhere"}}, Data: []byte("{}")}
	if _, err := a.JetStream().PublishMsg(context.Background(), forged); err != nil {
		t.Fatal(err)
	}
	a.MustPublish(t, event.OrderCreated, created(id))
	systemtest.Until(t, "the mail came in", func() bool { return len(sent(a.mail, event.NotifyReceived, id)) > 0 })
	a.settled(t)
	if got := len(sent(a.mail, event.NotifyReceived, id)); got != 1 {
		t.Errorf("%d mails came in, want 1", got)
	}
}

// A refund that names no customer has no recipient: it is given up.
func TestRefundWithoutCustomer(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	a.MustPublish(t, event.PaymentRefunded, event.Charge{OrderKey: event.OrderKey{OrderID: event.NewOrderID()}})
	a.settled(t)
	if got := a.mail.Count(""); got != 0 {
		t.Errorf("%d commands came in, want none", got)
	}
}

// A name that the API would reject, in the stream, adds no header and no recipient.
func TestNameInTheStream(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	order := created(event.NewOrderID())
	order.Customer.Name = "Robin\r\nBcc: eve@example.com\r\n\r\n.\r\n"
	a.MustPublish(t, event.OrderCreated, order)
	systemtest.Until(t, "the mail is recorded", func() bool { _, ok := a.stored(t, event.NotifyReceived, order.OrderID); return ok })
	mails := sent(a.mail, event.NotifyReceived, order.OrderID)
	if len(mails) != 1 || a.mail.Count("RCPT") != 1 {
		t.Fatalf("%d mails to %d addresses came in, want 1 to 1", len(mails), a.mail.Count("RCPT"))
	}
	if got := mails[0].Get("Bcc"); got != "" {
		t.Errorf("Bcc = %q, want none", got)
	}
}
