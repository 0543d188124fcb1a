package fulfillment

import (
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/internal/event"
)

const id = "019a0000-0000-7000-8000-000000000001"

// MustEvent makes the event that a draft becomes when it is stored under sequence.
func MustEvent(tb testing.TB, sequence uint64, d event.Draft) event.Event {
	tb.Helper()
	m, err := d.Message(when)
	if err != nil {
		tb.Fatal(err)
	}
	e, err := event.Check(m.Subject, m.Header, m.Data)
	if err != nil {
		tb.Fatal(err)
	}
	e.Sequence = sequence
	return e
}

var (
	when  = event.Event{}.Time
	order = event.OrderKey{OrderID: id}
	items = []event.Item{{SKU: "COMPASS", Quantity: 1}}

	created = event.Draft{Type: event.OrderCreated, Payload: event.Created{OrderKey: order, Items: items}}

	confirmed  = event.Draft{Type: event.PaymentConfirmed, Payload: event.Charge{OrderKey: order}}
	declined   = refused(event.PaymentDeclined, event.ReasonPaymentDeclined)
	reserved   = event.Draft{Type: event.InventoryReserved, Payload: event.Reservation{OrderKey: order, Items: items}}
	rejected   = refused(event.InventoryRejected, event.ReasonOutOfStock)
	byCustomer = event.Draft{Type: event.OrderCancelled, Payload: event.Refused{OrderKey: order, Reason: event.ReasonCustomer}}
	byDeadline = event.Draft{Type: event.OrderCancelled, Payload: event.Refused{OrderKey: order, Reason: event.ReasonDeadline}}

	// An event that decides nothing.
	mailed = event.Draft{Type: event.NotifyReceived, Payload: event.MailSent{OrderKey: order}}
)

func refused(t event.Type, reason string) event.Draft {
	return event.Draft{Type: t, Payload: event.Refused{OrderKey: order, Reason: reason}}
}

// history is an order's events in stream order; sequences have gaps, as they do
// in a stream of many orders.
func history(tb testing.TB, drafts []event.Draft) []event.Event {
	tb.Helper()
	var events []event.Event
	for i, d := range drafts {
		events = append(events, MustEvent(tb, uint64(10+7*i), d))
	}
	return events
}

// permutations calls f with every order of drafts.
func permutations(drafts []event.Draft, f func([]event.Draft)) {
	var next func(done, rest []event.Draft)
	next = func(done, rest []event.Draft) {
		if len(rest) == 0 {
			f(done)
			return
		}
		for i, d := range rest {
			next(append(slices.Clone(done), d), slices.Delete(slices.Clone(rest), i, i+1))
		}
	}
	next(nil, drafts)
}

// want works out the verdict another way than judge does: it walks through the
// events once, in stream order, and stops at the one that decides.
func want(events []event.Event) (decides uint64, ship bool, reason string, outcomes int) {
	var payment, inventory event.Type
	for _, e := range events {
		switch e.Type {
		case event.OrderCancelled:
			return e.Sequence, false, MustReason(e), outcomes
		case event.PaymentConfirmed, event.PaymentDeclined:
			payment = e.Type
		case event.InventoryReserved, event.InventoryRejected:
			inventory = e.Type
		default:
			continue
		}
		if outcomes++; outcomes < 2 {
			continue
		}
		switch {
		case payment == event.PaymentDeclined:
			return e.Sequence, false, event.ReasonPaymentDeclined, outcomes
		case inventory == event.InventoryRejected:
			return e.Sequence, false, event.ReasonOutOfStock, outcomes
		}
		return e.Sequence, true, "", outcomes
	}
	return 0, false, "", outcomes
}

func MustReason(e event.Event) string {
	c, err := event.Decode[event.Refused](e)
	if err != nil {
		panic(err)
	}
	return c.Reason
}

// Whatever the outcomes, whether and by whom the order is cancelled, in whatever
// order the stream has it all: exactly one event decides, its handler alone finds
// out so, however much of the stream it sees already, and finds the same verdict.
func TestJudge(t *testing.T) {
	ran := 0
	for _, payment := range []event.Draft{confirmed, declined} {
		for _, inventory := range []event.Draft{reserved, rejected} {
			for _, more := range [][]event.Draft{nil, {byCustomer}, {byDeadline}, {mailed}, {byCustomer, mailed}} {
				drafts := append([]event.Draft{payment, inventory}, more...)
				permutations(drafts, func(drafts []event.Draft) {
					ran++
					drafts = append([]event.Draft{created}, drafts...)
					t.Run(name(drafts), func(t *testing.T) { judgeAll(t, history(t, drafts)) })
				})
			}
		}
	}
	if want := 4 * (2 + 6 + 6 + 6 + 24); ran != want {
		t.Errorf("ran %d histories, want %d", ran, want)
	}
}

func name(drafts []event.Draft) string {
	var types []string
	for _, d := range drafts {
		types = append(types, string(d.Type))
	}
	return strings.Join(types, ",")
}

func judgeAll(t *testing.T, events []event.Event) {
	decides, ship, reason, outcomes := want(events)
	if decides == 0 {
		t.Fatal("nothing decides")
	}
	for seen := 1; seen <= len(events); seen++ {
		// A handler sees its own event at least, and perhaps later ones.
		for _, e := range events[:seen] {
			v, decided := judge(events[:seen], e.Sequence)
			if got, want := decided, e.Sequence == decides; got != want {
				t.Errorf("seeing %d events, %s at %d decides = %t, want %t", seen, e.Type, e.Sequence, got, want)
				continue
			}
			if !decided {
				if v.ship || v.reason != "" || v.created.Sequence != 0 {
					t.Errorf("seeing %d events, %s at %d: verdict %+v, want none", seen, e.Type, e.Sequence, v)
				}
				continue
			}
			if v.ship != ship || v.reason != reason {
				t.Errorf("seeing %d events: ship = %t, reason = %q, want %t, %q", seen, v.ship, v.reason, ship, reason)
			}
			if v.created.Type != event.OrderCreated {
				t.Errorf("seeing %d events: the verdict is about %q, want the order", seen, v.created.Type)
			}
			got := 0
			for _, o := range []event.Event{v.payment, v.inventory} {
				if o.Sequence > 0 {
					got++
				}
				if o.Sequence > decides {
					t.Errorf("the verdict counts %s at %d, after the deciding %d", o.Type, o.Sequence, decides)
				}
			}
			if got != outcomes {
				t.Errorf("seeing %d events: %d outcomes, want %d", seen, got, outcomes)
			}
		}
	}
}

// The events after the deciding one decide nothing, up to the order's end.
func TestJudgeAfterTheEnd(t *testing.T) {
	conclusion := event.Conclusion{OrderKey: order, Items: items}
	events := history(t, []event.Draft{
		created, confirmed, rejected,
		{Type: event.FulfillmentCancelled, Payload: conclusion},
		{Type: event.PaymentRefunded, Payload: event.Charge{OrderKey: order}},
		byCustomer, mailed,
	})
	for _, e := range events {
		_, decided := judge(events, e.Sequence)
		if want := e.Type == event.InventoryRejected; decided != want {
			t.Errorf("%s decides = %t, want %t", e.Type, decided, want)
		}
	}
}

// One outcome alone decides nothing, be it a refusal.
func TestJudgeOneOutcome(t *testing.T) {
	for _, d := range []event.Draft{confirmed, declined, reserved, rejected} {
		t.Run(string(d.Type), func(t *testing.T) {
			events := history(t, []event.Draft{created, d})
			for _, e := range events {
				if v, decided := judge(events, e.Sequence); decided {
					t.Errorf("%s decides: %+v", e.Type, v)
				}
			}
		})
	}
}
