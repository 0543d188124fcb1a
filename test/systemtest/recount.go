package systemtest

import (
	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
)

// Recount is what analytics must have counted of the whole ledger, worked out in
// another way: order by order.
func (l Ledger) Recount() Analytics {
	a := Analytics{AsOf: l.Last, Revenue: event.Money{Currency: catalog.Currency}, Units: map[string]int{}}
	for _, events := range l.Orders {
		if _, ok := event.Find(events, event.OrderCreated); ok {
			a.Orders.Created++
		}
		if _, ok := event.Find(events, event.FulfillmentCancelled); ok {
			a.Orders.Cancelled++
		}
		if e, ok := event.Find(events, event.FulfillmentShipped); ok {
			a.Orders.Shipped++
			if c, err := event.Decode[event.Conclusion](e); err == nil {
				a.Revenue.Amount += c.Total.Amount
				for _, i := range c.Items {
					a.Units[i.SKU] += i.Quantity
				}
			}
		}
	}
	return a
}
