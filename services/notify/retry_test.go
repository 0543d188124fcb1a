package notify_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing/linktest"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/smtptest"
	"example.org/ordertrail/test/systemtest"
)

// greylist has the server refuse each recipient so many times.
func greylist(server *smtptest.Server, times int) {
	refused := map[string]int{}
	server.Script(func(command string) string {
		if strings.HasPrefix(command, "RCPT") && refused[command] < times {
			refused[command]++
			return "451 4.7.1 greylisted, try again later"
		}
		return ""
	})
}

// The mail server is down for an hour, and then refuses each recipient once. All mails
// arrive, once, and none becomes a dead letter. Meanwhile they hold no delivery.
func TestOutage(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	greylist(a.mail, 1)
	a.mail.Stop()
	down := time.Now()
	const orders = 40
	want := map[string]bool{}
	for i := range orders {
		order := created(event.NewOrderID())
		order.Customer.Email = fmt.Sprintf("robin%d@example.com", i)
		a.MustPublish(t, event.OrderCreated, order)
		a.MustPublish(t, event.FulfillmentShipped, event.Conclusion{OrderKey: order.OrderKey, Customer: order.Customer, Items: order.Items})
		want[notify.MessageID(event.NotifyReceived, order.OrderID)] = true
		want[notify.MessageID(event.NotifyShipped, order.OrderID)] = true
	}
	systemtest.Until(t, "all mails wait for another attempt, and hold no delivery", func() bool { return a.later(t) == len(want) && a.idle(t) })
	systemtest.Until(t, "an hour is over", func() bool { return time.Since(down) > hour })
	if n := len(a.letters(t)); n > 0 {
		t.Errorf("%d dead letters while the server is down", n)
	}
	a.mail.Listen()
	systemtest.Until(t, "all mails came in", func() bool { return len(a.mail.Sent()) >= len(want) })
	a.settled(t)
	sent := a.mail.Sent()
	for id := range want {
		if sent[id] != 1 {
			t.Errorf("mail %s came in %d times, want once", id, sent[id])
		}
	}
	if got := a.mail.Count("RCPT"); got != len(want)+orders {
		t.Errorf("%d attempts on the server that is back, want %d", got, len(want)+orders)
	}
	if letters := a.letters(t); len(letters) > 0 {
		t.Errorf("%d dead letters, want none: %+v", len(letters), letters[0])
	}
}

// A mail that is refused for two days becomes a dead letter then, and not before. If an
// operator sends the dead letter again, the mail is tried for two more days.
func TestRefusedForTwoDays(t *testing.T) {
	t.Parallel()
	retries := simulated(24 * time.Hour / time.Second)
	a := runAloneOn(t, systemtest.Server(t).Connect, retries)
	greylist(a.mail, 1000)
	began := time.Now()
	order := created(event.NewOrderID())
	a.MustPublish(t, event.OrderCreated, order)
	systemtest.Until(t, "it becomes a dead letter", func() bool { return len(a.letters(t)) > 0 })
	if passed := time.Since(began); passed < retries.For {
		t.Errorf("given up after %v, want at least %v", passed, retries.For)
	}
	a.settled(t)
	letters := a.letters(t)
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(letters))
	}
	l := letters[0]
	if l.Stream != stream.MailsStream || l.Subject != event.MailDue(event.NotifyReceived).Subject(order.OrderID) || l.Deliveries != 1 {
		t.Errorf("dead letter %+v", l)
	}
	if !strings.Contains(l.Error, "451") || !strings.Contains(l.Error, "attempts") || strings.Contains(l.Error, "robin") {
		t.Errorf("its error is %q, want the answer and no address", l.Error)
	}
	tries := a.mail.Count("RCPT")
	if tries < 4 {
		t.Errorf("%d attempts in two days", tries)
	}
	greylist(a.mail, 1) // once more
	if err := a.client.Redrive(context.Background(), l.ID); err != nil {
		t.Fatal(err)
	}
	a.wantOne(t, order.OrderID)
	if got := a.mail.Count("RCPT") - tries; got != 2 {
		t.Errorf("%d attempts after it was sent again, want 2", got)
	}
	if n := len(a.letters(t)); n > 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

// A mail that is refused for good at a later attempt is given up at once.
func TestRefusedLater(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	answers := []string{"451 4.7.1 greylisted", "550 5.1.1 no such mailbox"}
	a.mail.Script(func(command string) (answer string) {
		if strings.HasPrefix(command, "RCPT") && len(answers) > 0 {
			answer, answers = answers[0], answers[1:]
		}
		return answer
	})
	order := created(event.NewOrderID())
	a.MustPublish(t, event.OrderCreated, order)
	systemtest.Until(t, "it becomes a dead letter", func() bool { return len(a.letters(t)) > 0 })
	a.settled(t)
	if l := a.letters(t)[0]; l.Stream != stream.MailsStream || !strings.Contains(l.Error, "550") {
		t.Errorf("dead letter %+v", l)
	}
	if got, want := a.mail.Count("RCPT"), 2; got != want {
		t.Errorf("%d attempts, want %d", got, want)
	}
}

// A mail that is to be tried again outlives notify and the NATS server, which stops or is
// killed.
func TestRestartWhileScheduled(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(map[bool]string{false: "Stopped", true: "Killed"}[killed], func(t *testing.T) {
			t.Parallel()
			store, copied := systemtest.NewStore(t), t.TempDir()
			a := runAloneOn(t, store.Connect, notify.Retries{Pauses: []time.Duration{2 * time.Second}, For: time.Minute}, func(cfg *systemtest.Config) {
				cfg.Topology.AckWait = time.Second // the killed server has not stored the acknowledgement
			})
			greylist(a.mail, 1)
			id := event.NewOrderID()
			a.MustPublish(t, event.OrderCreated, created(id))
			systemtest.Until(t, "it waits for another attempt", func() bool { return a.later(t) == 1 && a.idle(t) })
			if err := systemtest.CopyLive(copied, store.Dir); err != nil {
				t.Fatal(err)
			}
			ctx := systemtest.Context(t)
			if err := a.Replica(notify.Name, 0).Stop(ctx); err != nil {
				t.Fatal(err)
			}
			store.Change(t, func(dir string) {
				if killed {
					if err := systemtest.CopyLive(dir, copied); err != nil {
						t.Fatal(err)
					}
				}
			})
			if _, err := a.Run(ctx, notify.Name); err != nil {
				t.Fatal(err)
			}
			a.wantOne(t, id)
			if got, want := a.mail.Count("RCPT"), 2; got != want {
				t.Errorf("%d attempts, want %d", got, want)
			}
		})
	}
}

// unheard is a message whose acknowledgement is lost, as in a crash.
type unheard struct{ jetstream.Msg }

func (unheard) Ack() error { return nil }

// After a crash between scheduling an attempt and the acknowledgement, the message is
// delivered again. There is no attempt more for that.
func TestCrashAfterScheduling(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var redelivered []string
	a := runAloneOn(t, systemtest.Server(t).Connect, notify.Retries{Pauses: []time.Duration{time.Second}, For: time.Minute}, func(cfg *systemtest.Config) {
		cfg.Topology.AckWait = 200 * time.Millisecond
		cfg.Stream = func(string) []stream.Option {
			return []stream.Option{stream.OnDeliver(func(_ string, m jetstream.Msg) []jetstream.Msg {
				if meta, err := m.Metadata(); err == nil && meta.NumDelivered == 1 {
					return []jetstream.Msg{unheard{m}}
				}
				mu.Lock()
				defer mu.Unlock()
				redelivered = append(redelivered, m.Subject())
				return []jetstream.Msg{m}
			})}
		}
	})
	greylist(a.mail, 2)
	id := event.NewOrderID()
	a.MustPublish(t, event.OrderCreated, created(id))
	a.wantOne(t, id)
	due := event.MailDue(event.NotifyReceived).Subject(id)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{event.OrderCreated.Subject(id), due, due}; !slices.Equal(redelivered, want) {
		t.Errorf("delivered again: %q, want %q", redelivered, want)
	}
	if got, want := a.mail.Count("RCPT"), 3; got != want {
		t.Errorf("%d attempts, want %d", got, want)
	}
}

// By default the first pause is a minute, and up to a tenth more.
func TestFirstPause(t *testing.T) {
	t.Parallel()
	a := runAloneOn(t, systemtest.Server(t).Connect, notify.DefaultRetries)
	greylist(a.mail, 1)
	s, err := a.JetStream().Stream(t.Context(), stream.MailsStream)
	if err != nil {
		t.Fatal(err)
	}
	pauses := map[time.Duration]bool{}
	for range 5 {
		order := created(event.NewOrderID())
		order.Customer.Email = order.OrderID + "@example.com"
		began := time.Now()
		a.MustPublish(t, event.OrderCreated, order)
		var m *jetstream.RawStreamMsg
		systemtest.Until(t, "it is scheduled", func() bool {
			m, err = s.GetLastMsgForSubject(t.Context(), event.MailAt(event.NotifyReceived).Subject(order.OrderID))
			return err == nil
		})
		due, err := time.Parse("@at "+time.RFC3339Nano, m.Header.Get("Nats-Schedule"))
		if err != nil {
			t.Fatal(err)
		}
		if due.Before(began.Add(time.Minute)) || due.After(time.Now().Add(66*time.Second)) {
			t.Errorf("due %v after the event, want a minute", due.Sub(began))
		}
		if strings.Contains(string(m.Data), "@example.com") {
			t.Errorf("the schedule has the address: %s", m.Data)
		}
		pauses[due.Sub(m.Time).Round(100*time.Millisecond)] = true
	}
	if len(pauses) < 2 {
		t.Errorf("the pauses are all the same: %v", pauses)
	}
}

// An attempt is a trace of its own, which links the one before it and knows its order.
func TestRetryLinks(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	greylist(server, 1)
	sys := systemtest.Start(t, func(cfg *systemtest.Config) {
		cfg.Wire = map[string]service.Wire{notify.Name: func(rt *service.Runtime) (service.Part, error) {
			return notify.NewWithRetries(rt, MustSMTP(t, server.URL()), simulated(time.Hour/hour)), nil
		}}
	})
	order, err := demo.Play(t.Context(), sys.Shop, systemtest.Scenario(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	var again tracetest.SpanStub // one of the two mails was refused
	systemtest.Until(t, "the second attempt has ended", func() bool {
		for _, s := range sys.Spans.GetSpans() {
			if strings.HasPrefix(s.Name, "process mails.due.") {
				again = s
			}
		}
		return again.Name != ""
	})
	spans := sys.Spans.GetSpans()
	scheduled := linktest.Spans(spans).One(t, strings.Replace(again.Name, "process mails.due", "publish mails.at", 1))
	if again.Parent.IsValid() || len(again.Links) != 1 || again.Links[0].SpanContext.SpanID() != scheduled.SpanContext.SpanID() {
		t.Errorf("parent %v, links %v, want a link to %v alone", again.Parent, again.Links, scheduled.SpanContext)
	} else if !slices.Contains(again.Links[0].Attributes, event.OrderIDKey.String(order.ID)) {
		t.Errorf("the link has the attributes %v, want order.id", again.Links[0].Attributes)
	}
	attempted := false
	for _, s := range spans {
		if s.SpanContext.TraceID() != again.SpanContext.TraceID() {
			continue
		}
		attempted = attempted || s.Name == "send mail"
		// It comes from the baggage.
		if !slices.Contains(s.Attributes, event.OrderIDKey.String(order.ID)) {
			t.Errorf("span %s does not name the order: %v", s.Name, s.Attributes)
		}
	}
	if !attempted {
		t.Error("the trace has no attempt")
	}
}

// notify is not ready while its consumer of MAILS is missing, and continues when it is there.
func TestReadyNeedsMails(t *testing.T) {
	t.Parallel()
	a := runAlone(t)
	replica := a.Replica(notify.Name, 0)
	systemtest.Until(t, "notify is ready", func() bool { return replica.Ready(t.Context()) == nil })
	if err := a.JetStream().DeleteStream(t.Context(), stream.MailsStream); err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "notify is not ready", func() bool {
		err := replica.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "stream MAILS is missing")
	})
	greylist(a.mail, 1)
	id := event.NewOrderID()
	a.MustPublish(t, event.OrderCreated, created(id))
	if err := stream.Provision(t.Context(), a.JetStream(), stream.Topology{Durables: app.Durables()}); err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "notify is ready again", func() bool { return replica.Ready(t.Context()) == nil })
	a.wantOne(t, id)
}
