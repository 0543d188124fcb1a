package stream_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// Every service may write dead letters, and an operator who sends one again has other
// permissions. Whatever its headers are, the message reaches the consumer that gave it up,
// or the one consumer of a timer. It has the event's headers and none that the server obeys.
func FuzzDeadLetter(f *testing.F) {
	const id, traceparent = "019a0000-0000-7000-8000-000000000001", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	created := event.OrderCreated.Subject(id)
	for _, l := range [][2]string{ // the event's subject, and the stream that contains it
		{created, stream.OrdersStream}, {created, ""}, {created, stream.MailsStream}, {event.StockAdded.Subject("COMPASS"), stream.DeadlinesStream},
		{event.DeadlineDue.Subject(id), stream.DeadlinesStream}, {event.MailDue(event.NotifyShipped).Subject(id), stream.MailsStream},
		{event.Redrive("payments", created), stream.OrdersStream}, {"orders.created.*", stream.OrdersStream}, {"", ""},
	} {
		f.Add("deadletters.payments.1", l[0], l[1], "permanent", "no card", "1", "2026-01-02T12:00:00Z", traceparent, "Nats-Msg-Id", "1", []byte(`{"order_id":"`+id+`"}`))
	}
	f.Add("deadletters.pay\x1bments.-1", created, stream.OrdersStream, "", "\xff", "-1", "9999-12-31T23:59:59+23:59", "00-0-0-00", "Status", "503", []byte("\x00"))
	f.Add("deadletters.orders.1", event.DeadlineDue.Subject(id), stream.DeadlinesStream, "failed", "", "1", "", traceparent, "x", "y", []byte("{}"))
	f.Add("deadletters..", created, stream.OrdersStream, "x", "", "18446744073709551615", "", strings.ToUpper(traceparent), "deadletter-subject", created, []byte(nil))
	tracer := tracing.New()
	f.Fuzz(func(t *testing.T, subject, original, of, reason, cause, number, at, span, name, value string, data []byte) {
		consumer, sequence, ok := event.CutDeadLetter(subject)
		if !ok || strings.ContainsAny(subject, "*> \t\r\n") {
			t.Skip("the server would not store it in DEADLETTERS")
		}
		stored := &jetstream.RawStreamMsg{Subject: subject, Sequence: 7, Data: data, Header: nats.Header{
			name: {value}, "deadletter-subject": {original}, "deadletter-stream": {of}, "deadletter-reason": {reason}, "deadletter-error": {cause},
			"deadletter-sequence": {number}, "deadletter-deliveries": {number}, "deadletter-time": {at}, "deadletter-traceparent": {span},
		}}
		l, again, link, err := stream.ReadLetter(stored, tracer)
		if l.ID != consumer+"."+sequence || l.Consumer != consumer || l.Subject != original || !bytes.Equal(l.Data, data) {
			t.Errorf("the letter on %q is %+v", subject, l)
		}
		if err != nil {
			return
		}
		switch domain := strings.Split(again.Subject, ".")[0]; domain {
		case "redrive":
			if durable, event, ok := event.CutRedrive(again.Subject); !ok || durable != consumer || event != original {
				t.Errorf("%q, which %q gave up, is sent to %q as %q", original, consumer, durable, event)
			}
		case "deadlines", "mails":
			if owner := map[string]string{"deadlines": "orders", "mails": "notify"}[domain]; again.Subject != original || consumer != owner {
				t.Errorf("%q, which %q gave up, is sent on %q", original, consumer, again.Subject)
			}
		default:
			t.Errorf("%q, which %q gave up, is sent to every consumer on %q", original, consumer, again.Subject)
		}
		for name := range again.Header {
			if folded := strings.ToLower(name); strings.HasPrefix(folded, "nats-") || folded == "status" {
				t.Errorf("header %q is for the server", name)
			}
		}
		if !bytes.Equal(again.Data, data) || again.Header["deadletter-traceparent"][0] != span {
			t.Errorf("%q is sent with %q and %q", data, again.Data, again.Header)
		}
		if link.SpanContext.IsValid() && !strings.Contains(span, link.SpanContext.SpanID().String()) {
			t.Errorf("span %q is linked as %v", span, link.SpanContext)
		}
	})
}
