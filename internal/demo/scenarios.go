package demo

import (
	"slices"

	"ordertrail/internal/event"
	"ordertrail/services/orders"
)

// Scenario is one order whose course is known beforehand: what is in it decides,
// like a card processor's test cards.
type Scenario struct {
	Name   string
	Story  string
	Token  string
	SKUs   []string
	Addr   string
	Cancel bool // the customer changes their mind at once
	Want   Want
}

// Want is how a scenario must end.
type Want struct {
	State    string
	Reason   string
	Refunded bool
	Events   []event.Type // all of them, in any order
}

const address = "1 Trailhead Way, 12345 Sampleton"

// Scenarios returns one of each kind.
func Scenarios() []Scenario {
	happy := []string{"TRAIL-MAP", "COMPASS"}
	received := []event.Type{event.OrderCreated, event.NotifyReceived}
	with := func(more ...event.Type) []event.Type { return slices.Concat(received, more) }
	shipped := Want{State: orders.StateShipped, Events: with(event.PaymentConfirmed, event.InventoryReserved,
		event.FulfillmentShipped, event.NotifyShipped)}
	return []Scenario{
		{
			Name: "happy", Story: "paid, in stock, shipped",
			Token: "tok_ok", SKUs: happy, Addr: address, Want: shipped,
		}, {
			Name: "declined", Story: "the card is declined, the stock goes back",
			Token: "tok_declined", SKUs: happy, Addr: address,
			Want: Want{orders.StateCancelled, event.ReasonPaymentDeclined, false, with(event.PaymentDeclined, event.InventoryReserved,
				event.FulfillmentCancelled, event.InventoryReleased, event.NotifyCancelled)},
		}, {
			Name: "sold-out", Story: "not in stock, the money goes back",
			Token: "tok_ok", SKUs: []string{"TRAIL-MAP", "SOLD-OUT"}, Addr: address,
			Want: Want{orders.StateCancelled, event.ReasonOutOfStock, true, with(event.PaymentConfirmed, event.InventoryRejected,
				event.FulfillmentCancelled, event.PaymentRefunded, event.NotifyCancelled, event.NotifyRefunded)},
		}, {
			Name: "undeliverable", Story: "the carrier refuses the parcel: cancelled late",
			Token: "tok_ok", SKUs: happy, Addr: "undeliverable, " + address,
			Want: Want{orders.StateCancelled, event.ReasonUndeliverable, true, with(event.PaymentConfirmed, event.InventoryReserved,
				event.FulfillmentCancelled, event.PaymentRefunded, event.InventoryReleased, event.NotifyCancelled, event.NotifyRefunded)},
		}, {
			Name: "flaky", Story: "the card gateway fails twice, redelivery heals it",
			Token: "tok_flaky", SKUs: happy, Addr: address, Want: shipped,
		}, {
			Name: "slow", Story: "the card gateway takes a second",
			Token: "tok_slow", SKUs: happy, Addr: address, Want: shipped,
		}, {
			Name: "cancelled", Story: "the customer cancels while the card is being charged",
			Token: "tok_slow", SKUs: happy, Addr: address, Cancel: true,
			Want: Want{orders.StateCancelled, event.ReasonCustomer, false, with(event.OrderCancelled, event.PaymentDeclined, event.InventoryReserved,
				event.FulfillmentCancelled, event.InventoryReleased, event.NotifyCancelled)},
		}, {
			Name: "poison", Story: "the card gateway never answers: a dead letter, then the deadline cancels",
			Token: "tok_poison", SKUs: happy, Addr: address,
			Want: Want{orders.StateCancelled, event.ReasonDeadline, false, with(event.OrderCancelled, event.PaymentDeclined, event.InventoryReserved,
				event.FulfillmentCancelled, event.InventoryReleased, event.NotifyCancelled)},
		},
	}
}
