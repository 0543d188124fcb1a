package demo

import (
	"slices"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/services/orders"
)

// Scenario is an order with a known end.
type Scenario struct {
	scenario.Scenario
	Want Want
}

// Want is the end of a scenario.
type Want struct {
	State    string
	Reason   string
	Refunded bool
	Events   []event.Type // all of them, in any order
}

// Scenarios returns all scenarios.
func Scenarios() []Scenario {
	var all []Scenario
	for _, s := range scenario.All() {
		all = append(all, Scenario{s, wants[s.Name]})
	}
	return all
}

// wants has an entry for each scenario, by name.
var wants = func() map[string]Want {
	received := []event.Type{event.OrderCreated, event.NotifyReceived}
	with := func(more ...event.Type) []event.Type { return slices.Concat(received, more) }
	shipped := Want{State: orders.StateShipped, Events: with(event.PaymentConfirmed, event.InventoryReserved,
		event.FulfillmentShipped, event.NotifyShipped)}
	return map[string]Want{
		"happy": shipped,
		"declined": {orders.StateCancelled, event.ReasonPaymentDeclined, false, with(event.PaymentDeclined, event.InventoryReserved,
			event.FulfillmentCancelled, event.InventoryReleased, event.NotifyCancelled)},
		"sold-out": {orders.StateCancelled, event.ReasonOutOfStock, true, with(event.PaymentConfirmed, event.InventoryRejected,
			event.FulfillmentCancelled, event.PaymentRefunded, event.NotifyCancelled, event.NotifyRefunded)},
		"undeliverable": {orders.StateCancelled, event.ReasonUndeliverable, true, with(event.PaymentConfirmed, event.InventoryReserved,
			event.FulfillmentCancelled, event.PaymentRefunded, event.InventoryReleased, event.NotifyCancelled, event.NotifyRefunded)},
		"flaky": shipped,
		"slow":  shipped,
		"cancelled": {orders.StateCancelled, event.ReasonCustomer, false, with(event.OrderCancelled, event.PaymentDeclined, event.InventoryReserved,
			event.FulfillmentCancelled, event.InventoryReleased, event.NotifyCancelled)},
		"poison": {orders.StateCancelled, event.ReasonDeadline, false, with(event.OrderCancelled, event.PaymentDeclined, event.InventoryReserved,
			event.FulfillmentCancelled, event.InventoryReleased, event.NotifyCancelled)},
	}
}()
