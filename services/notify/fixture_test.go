package notify_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/codes"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/systemtest"
)

// journal is a log to look into.
type journal struct {
	mu sync.Mutex
	bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Buffer.Write(b)
}

func (j *journal) Text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.String()
}

// alone runs notify with a mail server, and nobody else who would act on events:
// the test publishes what notify hears of.
type alone struct {
	*systemtest.System
	mail   *smtpServer
	client *stream.Client
	log    *journal
}

func runAlone(tb testing.TB) *alone {
	tb.Helper()
	a := &alone{mail: newSMTPServer(tb), log: &journal{}}
	a.System = systemtest.Start(tb, func(cfg *systemtest.Config) {
		cfg.Settings.SMTPURL = a.mail.URL()
		cfg.Log = slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})
		cfg.Wire = map[string]service.Wire{
			"payments": systemtest.Idle, "inventory": systemtest.Idle, "fulfillment": systemtest.Idle,
		}
	})
	var err error
	if a.client, err = a.Client(); err != nil {
		tb.Fatal(err)
	}
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
func sent(server *smtpServer, fact event.Type, id string) (found []received) {
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

// settled waits until notify has nothing waiting or under way.
func (a *alone) settled(tb testing.TB) {
	tb.Helper()
	systemtest.Until(tb, "notify has nothing left", func() bool {
		c, err := a.JetStream().Consumer(context.Background(), stream.OrdersStream, notify.Name)
		if err != nil {
			tb.Fatal(err)
		}
		info := c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0
	})
}

// failures counts the tries to send a mail that failed.
func (a *alone) failures() (n int) {
	for _, s := range a.Spans.GetSpans() {
		if s.Name == "send mail" && s.Status.Code == codes.Error {
			n++
		}
	}
	return n
}
