package notify_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/codes"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/smtptest"
	"example.org/ordertrail/test/systemtest"
)

// alone is notify with a mail server. The services that handle orders are idle: the test
// publishes their events.
type alone struct {
	*systemtest.System
	mail   *smtptest.Server
	client *stream.Client
	log    *systemtest.Output
}

// simulated returns the retries of mail servers in a time that is so many times as fast.
func simulated(factor time.Duration) notify.Retries {
	r := notify.Retries{For: notify.DefaultRetries.For / factor}
	for _, pause := range notify.DefaultRetries.Pauses {
		r.Pauses = append(r.Pauses, pause/factor)
	}
	return r
}

// hour is an hour of the time in which most tests try mails again.
const hour = time.Second

func runAlone(tb testing.TB, change ...func(*systemtest.Config)) *alone {
	tb.Helper()
	return runAloneOn(tb, systemtest.Server(tb).Connect, simulated(time.Hour/hour), change...)
}

func runAloneOn(tb testing.TB, connect func(...nats.Option) (*nats.Conn, error), retries notify.Retries, change ...func(*systemtest.Config)) *alone {
	tb.Helper()
	a := &alone{mail: smtptest.Start(tb), log: new(systemtest.Output)}
	a.System = systemtest.StartOn(tb, connect, append(change, func(cfg *systemtest.Config) {
		cfg.Log = slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})
		cfg.Wire = map[string]service.Wire{
			"payments": systemtest.Idle, "inventory": systemtest.Idle, "fulfillment": systemtest.Idle,
			"notify": func(rt *service.Runtime) (service.Part, error) {
				return notify.NewWithRetries(rt, MustSMTP(tb, a.mail.URL()), retries), nil
			},
		}
	})...)
	a.client = a.Operator(tb)
	return a
}

func (a *alone) MustPublish(tb testing.TB, t event.Type, p event.Payload) {
	tb.Helper()
	if _, err := a.client.PublishOnce(context.Background(), event.Draft{Type: t, Payload: p}, stream.Alone(t, p.Key())); err != nil {
		tb.Fatal(err)
	}
}

func created(id string) event.Created {
	return event.Created{
		OrderKey: event.OrderKey{OrderID: id}, Customer: event.Customer{Name: "Robin Example", Email: "robin@example.com"},
		Items: []event.Item{{SKU: "COMPASS", Quantity: 1}}, Total: event.Money{Amount: 2490, Currency: "EUR"},
	}
}

// sent returns the mails with this Message-ID.
func sent(server *smtptest.Server, fact event.Type, id string) (found []smtptest.Mail) {
	for _, m := range server.Mails() {
		if m.Header.Get("Message-Id") == "<"+notify.MessageID(fact, id)+">" {
			found = append(found, m)
		}
	}
	return found
}

// stored returns the fact that a mail was sent, if it is there.
func (a *alone) stored(tb testing.TB, fact event.Type, id string) (e event.Event, ok bool) {
	tb.Helper()
	events, err := a.client.OrderEvents(context.Background(), id, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return event.Find(events, fact)
}

// idle reports whether notify has no delivery that is waiting or under way. A mail that is
// to be tried again later is neither.
func (a *alone) idle(tb testing.TB) bool {
	return systemtest.Drained(tb.Context(), a.JetStream(), []stream.Durable{
		{Name: notify.Name, Stream: stream.OrdersStream}, {Name: notify.Name, Stream: stream.MailsStream},
	}) == nil
}

// later returns how many mails are to be tried again.
func (a *alone) later(tb testing.TB) int {
	tb.Helper()
	s, err := a.JetStream().Stream(context.Background(), stream.MailsStream)
	if err != nil {
		tb.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// settled waits until notify has nothing left to do, now or later.
func (a *alone) settled(tb testing.TB) {
	tb.Helper()
	systemtest.Until(tb, "notify has nothing left", func() bool { return a.idle(tb) && a.later(tb) == 0 && a.idle(tb) })
}

// letters returns the dead letters.
func (a *alone) letters(tb testing.TB) []stream.DeadLetter {
	tb.Helper()
	all, err := a.client.DeadLetters(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// wantOne waits until the stream records that the mail about a new order was sent, and
// notify has nothing left, and wants the server to have the mail once.
func (a *alone) wantOne(tb testing.TB, id string) {
	tb.Helper()
	systemtest.Until(tb, "the mail is recorded", func() bool { _, ok := a.stored(tb, event.NotifyReceived, id); return ok })
	a.settled(tb)
	if got := len(sent(a.mail, event.NotifyReceived, id)); got != 1 {
		tb.Errorf("%d mails came in, want 1", got)
	}
}

// failures returns how many attempts to send a mail failed.
func (a *alone) failures() (n int) {
	for _, s := range a.Spans.GetSpans() {
		if s.Name == "send mail" && s.Status.Code == codes.Error {
			n++
		}
	}
	return n
}
