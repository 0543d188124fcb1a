// Package catalog is what the shop sells: prices for orders, first stock for
// inventory. A real shop would have a service for it.
package catalog

import "example.org/ordertrail/internal/event"

// Currency is the one the shop sells in.
const Currency = "EUR"

// Product is one thing on sale.
type Product struct {
	SKU   string      `json:"sku"`
	Name  string      `json:"name"`
	Price event.Money `json:"price"`

	// InitialStock is what inventory starts with, in units. Not shown to
	// customers: it is not what is there now.
	InitialStock int `json:"-"`
}

// plenty outlasts a load test of a million orders.
const plenty = 1_000_000_000

var products = []Product{
	{"TRAIL-MAP", "Trail map, folded", price(950), plenty},
	{"COMPASS", "Baseplate compass", price(2490), plenty},
	{"HEADLAMP", "Headlamp, 400 lm", price(3995), plenty},
	{"THERMOS", "Vacuum flask, 0.75 l", price(2950), plenty},
	{"LAST-ONE", "Last season's tent: one left", price(14900), 1},
	{"SOLD-OUT", "Out of print guidebook", price(1990), 0},
}

func price(amount int64) event.Money { return event.Money{Amount: amount, Currency: Currency} }

// Products lists everything on sale, in the order it is shown.
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
