package main

import (
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
)

// runService runs the service of that name as its binary in cmd does, and tells
// whether there is one. The container image holds this binary alone, which goes
// there by the names of the six, too: all have nearly everything in common.
func runService(name string) bool {
	switch name {
	case orders.Name:
		service.Main(orders.Name, orders.DefaultHTTPAddr, orders.Wire)
	case payments.Name:
		service.Main(payments.Name, "", payments.Wire)
	case inventory.Name:
		service.Main(inventory.Name, "", inventory.Wire)
	case fulfillment.Name:
		service.Main(fulfillment.Name, "", fulfillment.Wire)
	case notify.Name:
		service.Main(notify.Name, "", notify.Wire)
	case analytics.Name:
		service.Main(analytics.Name, analytics.DefaultHTTPAddr, analytics.Wire)
	default:
		return false
	}
	return true
}
