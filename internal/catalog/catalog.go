// Package catalog lists the products: their prices for orders, and their first stock for
// inventory. A real shop would have a service for it.
package catalog

import "example.org/ordertrail/internal/event"

// Currency is the currency of all prices.
const Currency = "EUR"

// Product is a product on sale.
type Product struct {
	SKU   string      `json:"sku"`
	Name  string      `json:"name"`
	Price event.Money `json:"price"`

	// InitialStock is the number of units that inventory starts with. Customers do not
	// see it: the stock changes.
	InitialStock int `json:"-"`
}

// plenty lasts for a load test of a million orders.
const plenty = 1_000_000_000

var products = []Product{
	{"TRAIL-MAP", "Trail map, folded", price(950), plenty},
	{"COMPASS", "Baseplate compass", price(2490), plenty},
	{"HEADLAMP", "Headlamp, 400 lm", price(3995), plenty},
	{"THERMOS", "Vacuum flask, 0.75 l", price(2950), plenty},
	{"LAST-ONE", "Last season's tent", price(14900), 1},
	{"SOLD-OUT", "Out of print guidebook", price(1990), 0},
}

func price(amount int64) event.Money { return event.Money{Amount: amount, Currency: Currency} }

// Products returns all products, in the order in which pages show them.
func Products() []Product { return append([]Product(nil), products...) }

// Find returns the product with this SKU.
func Find(sku string) (Product, bool) {
	for _, p := range products {
		if p.SKU == sku {
			return p, true
		}
	}
	return Product{}, false
}
