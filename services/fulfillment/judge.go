package fulfillment

import "example.org/ordertrail/internal/event"

// verdict is the decision about an order, from its events up to the deciding one.
type verdict struct {
	ship      bool
	reason    string // of the cancellation, when ship is false
	created   event.Event
	payment   event.Event // the outcomes so far; zero if an early cancellation decided
	inventory event.Event
}

// judge decides an order from its events up to sequence. decided is true only if the
// event with that sequence is the deciding one: the second outcome, or
// orders.cancelled, whichever comes first in the stream.
//
// Later events are ignored, even if they are stored already. So the handlers of all
// events of an order find the same deciding event, in whatever order and however
// often they run, and only one of them handles it.
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

// reasonOf returns the reason in a refusal or a cancellation.
func reasonOf(e event.Event) string {
	refused, err := event.Decode[event.Refused](e)
	if err != nil {
		return event.ReasonCustomer
	}
	return refused.Reason
}
