package fulfillment

import "example.org/ordertrail/internal/event"

// verdict is what an order's events up to the deciding one say.
type verdict struct {
	ship      bool
	reason    string // why not, when ship is false
	created   event.Event
	payment   event.Event // the outcomes seen; zero when an early cancellation decided
	inventory event.Event
}

// judge decides an order by its events up to sequence, and only if the event
// under sequence is the deciding one: the first in the stream of the second
// outcome and of orders.cancelled.
//
// Later events are ignored even when they are there already. So every handler of
// every event of an order finds the same deciding event, whatever the order and
// the number of times they run in, and exactly one of them finds it is its own.
func judge(events []event.Event, sequence uint64) (v verdict, decided bool) {
	var cancelled event.Event
	for _, e := range events {
		if e.Sequence > sequence {
			continue
		}
		switch e.Type {
		case event.OrderCreated:
			v.created = e
		case event.OrderCancelled:
			cancelled = e
		case event.PaymentConfirmed, event.PaymentDeclined:
			v.payment = e
		case event.InventoryReserved, event.InventoryRejected:
			v.inventory = e
		}
	}
	outcomes := uint64(0) // the sequence of the second one
	if v.payment.Sequence > 0 && v.inventory.Sequence > 0 {
		outcomes = max(v.payment.Sequence, v.inventory.Sequence)
	}
	switch {
	case outcomes == sequence && cancelled.Sequence == 0:
		v.ship = v.payment.Type == event.PaymentConfirmed && v.inventory.Type == event.InventoryReserved
		switch {
		case v.payment.Type == event.PaymentDeclined:
			v.reason = reasonOf(v.payment)
		case v.inventory.Type == event.InventoryRejected:
			v.reason = reasonOf(v.inventory)
		}
		return v, true
	case cancelled.Sequence == sequence && outcomes == 0:
		v.reason = reasonOf(cancelled)
		return v, true
	}
	return verdict{}, false
}

// reasonOf reads the reason that refusals and cancellations carry.
func reasonOf(e event.Event) string {
	refused, err := event.Decode[event.Refused](e)
	if err != nil {
		return event.ReasonCustomer
	}
	return refused.Reason
}
