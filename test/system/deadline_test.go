package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// unpaid runs a system without payments, so that only the deadline ends an order.
func unpaid(cfg *systemtest.Config) {
	systemtest.NewWorld().Use(cfg)
	cfg.Wire[payments.Name] = systemtest.Idle
}

// A deadline outlives all processes that run when it is set, the server included: those
// that start afterwards cancel the order.
func TestDeadlineOutlivesRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	cfg := systemtest.Config{Connect: server.Connect}
	unpaid(&cfg)
	systemtest.Deadline(2 * time.Second)(&cfg)
	ctx := systemtest.Context(t)
	sys, err := systemtest.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	shop := systemtest.Shop(sys)
	order, err := shop.Place(ctx, systemtest.Scenario(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sys.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	server.Close()

	if server, err = embedded.Start(dir); err != nil {
		t.Fatal(err)
	}
	again := systemtest.StartOn(t, server.Connect, unpaid)
	ended, err := again.Shop.Await(ctx, order.ID, func(o orders.Order) bool { return o.State == orders.StateCancelled })
	if err != nil || ended.Reason != event.ReasonDeadline || ended.Refunded {
		t.Fatalf("got %+v, %v", ended, err)
	}
	of := func(e orders.Event) trace.SpanID {
		id, err := trace.SpanIDFromHex(e.SpanID)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	// The span that asked for the end links the one that published the order. It ends after
	// the order.
	systemtest.Until(t, "a span of the deadline links the order's creation", func() bool {
		return slices.ContainsFunc(again.Spans.GetSpans(), func(s tracetest.SpanStub) bool {
			return strings.HasPrefix(value(s.Attributes, "messaging.destination.name"), string(event.DeadlineDue)+".") &&
				slices.ContainsFunc(s.Links, func(l sdktrace.Link) bool { return l.SpanContext.SpanID() == of(ended.Events[0]) })
		})
	})
	systemtest.Quiet{Orders: 1, Consumers: []stream.Durable{}, Done: func(events []event.Event) error {
		_, released := event.Find(events, event.InventoryReleased)
		_, rejected := event.Find(events, event.InventoryRejected) // the server stopped before inventory had decided
		if !released && !rejected {
			return errors.New("still has its stock reserved")
		}
		return systemtest.Concluded(events)
	}}.Await(t, again.JetStream()).Audit(t, nil)
}

// An order that is concluded in time is left alone by its deadline.
func TestDeadlineOfConcluded(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, systemtest.Deadline(time.Second))
	ctx := systemtest.Context(t)
	order, err := sys.Shop.Place(ctx, systemtest.Scenario(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	await(t, sys, event.DeadlineDue.Subject(order.ID))
	systemtest.Settle(t, sys.JetStream(), 1)
	order, err = sys.Shop.Get(ctx, order.ID)
	if err != nil || order.State != orders.StateShipped {
		t.Errorf("got %+v, %v", order, err)
	}
	for _, e := range order.Events {
		if e.Type == event.OrderCancelled {
			t.Error("its end was asked for")
		}
	}
}

// await waits for a message in DEADLINES.
func await(t *testing.T, sys *systemtest.System, subject string) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := sys.JetStream().Stream(context.Background(), stream.DeadlinesStream)
	if err != nil {
		t.Fatal(err)
	}
	var m *jetstream.RawStreamMsg
	systemtest.Until(t, "a message on "+subject, func() bool {
		m, err = s.GetLastMsgForSubject(context.Background(), subject)
		return err == nil
	})
	return m
}

// A deadline that finds no order is set again, since the order may come later, but only a
// few times.
func TestDeadlineOfNothing(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	ctx := systemtest.Context(t)
	client := sys.Operator(t)
	first, last := event.NewOrderID(), event.NewOrderID()
	for id, try := range map[string]int{first: 1, last: 5} {
		if err := client.Schedule(ctx, event.Deadline{OrderKey: event.OrderKey{OrderID: id}, Due: time.Now(), Try: try}); err != nil {
			t.Fatal(err)
		}
		await(t, sys, event.DeadlineDue.Subject(id))
	}
	systemtest.Settle(t, sys.JetStream(), 0)
	var again event.Deadline
	if err := json.Unmarshal(await(t, sys, event.DeadlineAt.Subject(first)).Data, &again); err != nil || again.Try != 2 || time.Until(again.Due) < time.Second {
		t.Errorf("set anew: %+v, %v", again, err)
	}
	s, err := sys.JetStream().Stream(ctx, stream.DeadlinesStream)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.GetLastMsgForSubject(ctx, event.DeadlineAt.Subject(last)); err == nil {
		t.Errorf("set anew after the last try: %s", m.Data)
	}
}

// A host whose clock is behind takes orders whose deadlines have passed before
// they are set. They have all their time nevertheless.
func TestDeadlineOfClockBehind(t *testing.T) {
	t.Parallel()
	const allowed = time.Second
	sys := systemtest.Start(t, unpaid, systemtest.Deadline(allowed))
	ctx := systemtest.Context(t)
	client := sys.Operator(t)
	order := event.OrderKey{OrderID: event.NewOrderID()}
	behind := time.Now().Add(-time.Hour)
	created, err := client.PublishOnce(ctx, event.Draft{Type: event.OrderCreated, Payload: event.Created{
		OrderKey: order, CreatedAt: behind, Customer: event.Customer{Name: "Robin", Email: "robin@example.com"},
		Items:   []event.Item{{SKU: "COMPASS", Quantity: 1, UnitPrice: event.Money{Amount: 2490, Currency: "EUR"}}},
		Payment: event.Payment{Token: "tok_ok"}, Shipping: event.Shipping{Address: "1 Trailhead Way"},
		Total: event.Money{Amount: 2490, Currency: "EUR"},
	}}, stream.First(event.OrderCreated, order.OrderID))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Schedule(ctx, event.Deadline{OrderKey: order, Due: behind.Add(allowed), Try: 1}); err != nil {
		t.Fatal(err)
	}
	ended, err := sys.Shop.Await(ctx, order.OrderID, func(o orders.Order) bool { return o.State == orders.StateCancelled })
	if err != nil || ended.Reason != event.ReasonDeadline {
		t.Fatalf("got %+v, %v", ended, err)
	}
	asked := slices.IndexFunc(ended.Events, func(e orders.Event) bool { return e.Type == event.OrderCancelled })
	if had := ended.Events[asked].Time.Sub(created.Event.Time); had < allowed {
		t.Errorf("its end was asked for after %v, want %v at least", had, allowed)
	}
}
