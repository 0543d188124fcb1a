package system_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// foreign returns a message with the ce-id of its subject, and nothing else that is
// right.
func foreign(subject, data string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{"ce-id": {subject}}, Data: []byte(data)}
}

// foreignMessages returns messages on a subject that no service published there.
func foreignMessages(subject string) map[string]*nats.Msg {
	key := subject[strings.LastIndexByte(subject, '.')+1:]
	other := event.NewOrderID()
	with := func(m *nats.Msg, pairs ...string) *nats.Msg {
		for i := 0; i < len(pairs); i += 2 {
			m.Header[pairs[i]] = append(m.Header[pairs[i]], pairs[i+1])
		}
		return m
	}
	return map[string]*nats.Msg{
		"Empty":         {Subject: subject},
		"NoHeaders":     {Subject: subject, Data: []byte(`{"order_id":"` + key + `"}`)},
		"LaunderedCopy": {Subject: subject, Header: nats.Header{"ce-id": {"orders.created." + other}}, Data: []byte(`{"order_id":"` + other + `"}`)},
		"TwoIDs":        with(foreign(subject, `{"order_id":"`+key+`"}`), "ce-id", "orders.created."+other),
		"EmptyPayload":  foreign(subject, ""),
		"Null":          foreign(subject, "null"),
		"Zeros":         foreign(subject, strings.Repeat("\x00", 100<<10)),
		"AnotherOrder":  foreign(subject, `{"order_id":"`+other+`","items":[{"sku":"COMPASS","quantity":1}]}`),
		"Spoofed": with(foreign(subject, "null"), "Nats-Subject", "orders.created."+other, "Nats-Sequence", "1",
			"Nats-Stream", "OTHER", "Nats-Time-Stamp", "1970-01-01T00:00:00Z"),
		"EndMarker":   with(foreign(subject, "null"), "Status", "204", "Nats-UpTo-Sequence", "9999999"),
		"Traceparent": with(foreign(subject, "null"), "traceparent", strings.Repeat("0", 8000), "baggage", "order.id=;;;"),
	}
}

// settled waits until no consumer has a message pending or in progress.
func settled(t *testing.T, sys *systemtest.System) {
	t.Helper()
	systemtest.Until(t, "no consumer has anything left", func() bool {
		return systemtest.Drained(t.Context(), sys.JetStream(), app.Durables()) == nil
	})
}

// Foreign messages of every kind on every subject become dead letters one by one, and
// all services process the real ones.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, systemtest.Deadline(5*time.Second))
	ctx := context.Background()
	publish := func(m *nats.Msg) {
		t.Helper()
		if _, err := sys.JetStream().PublishMsg(ctx, m); err != nil {
			t.Fatalf("publish on %s: %v", m.Subject, err)
		}
	}
	sys.AwaitStock(t) // foreign messages before it are another case
	for _, typ := range event.OfOrder {
		for kind := range foreignMessages("") {
			publish(foreignMessages(typ.Subject(event.NewOrderID()))[kind])
		}
	}
	for _, subject := range []string{"stock.added.COMPASS", "stock.added.SUBMARINE", "stock.lease.main", "stock.lease.other"} {
		for _, m := range foreignMessages(subject) {
			publish(m)
		}
	}
	for _, subject := range []string{
		"orders.created", "orders.created.42", "orders.invented." + event.NewOrderID(), "redrive.unknown.x", "inventory.reserved.x.y",
	} {
		publish(foreign(subject, "null"))
	}

	t.Run("scenarios", func(t *testing.T) {
		for _, sc := range demo.Scenarios() {
			t.Run(sc.Name, func(t *testing.T) {
				t.Parallel()
				if _, err := systemtest.Play(ctx, sys.Shop, sc); err != nil {
					t.Error(err)
				}
			})
		}
	})
	settled(t, sys)

	s := shoptest.Of(sys)
	played := len(demo.Scenarios())
	systemtest.Until(t, "analytics has counted the real orders alone", func() bool {
		a := string(s.MustGet(t, "/analytics").Content)
		return strings.Contains(a, fmt.Sprintf(`"orders":{"created":%d,`, played)) && strings.Contains(a, `"open":0}`)
	})
	if got := strings.Count(string(s.MustGet(t, "/orders").Content), `"state":"`); got != played {
		t.Errorf("%d orders are listed, want %d", got, played)
	}
}

// A foreign message in the place of a real order's next event delays that order only,
// and its charge is refunded a bounded number of times.
func TestForeignOutcome(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, systemtest.Deadline(5*time.Second))
	ctx := context.Background()
	slow := demo.Scenarios()[0]
	slow.Token = "tok_slow" // time for the message to be there first
	held, err := sys.Shop.Place(ctx, slow)
	if err != nil {
		t.Fatal(err)
	}
	laundered := foreignMessages("payments.confirmed." + held.ID)["LaunderedCopy"]
	if _, err := sys.JetStream().PublishMsg(ctx, laundered); err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Shop.Cancel(ctx, held.ID); err != nil {
		t.Fatal(err)
	}
	order, err := sys.Shop.Await(ctx, held.ID, func(o orders.Order) bool { return o.State == orders.StateCancelled })
	if err != nil {
		t.Fatalf("order %+v: %v", order, err)
	}
	if _, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0]); err != nil {
		t.Errorf("another order: %v", err)
	}
	settled(t, sys)
	refunds := 0
	for _, span := range sys.Spans.GetSpans() {
		if span.Name == "refund card" && value(span.Attributes, "order.id") == held.ID {
			refunds++
		}
	}
	if most := 5; refunds < 1 || refunds > most {
		t.Errorf("the card was refunded %d times, want 1 to %d: once by the charge's handler, once by the closing's", refunds, most)
	}
}
