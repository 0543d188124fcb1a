package catalog_test

import (
	"strings"
	"testing"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
)

func TestProducts(t *testing.T) {
	products := catalog.Products()
	if got, want := len(products), 6; got != want {
		t.Errorf("%d products, want %d", got, want)
	}
	seen := map[string]bool{}
	for _, p := range products {
		if seen[p.SKU] {
			t.Errorf("%s is there twice", p.SKU)
		}
		seen[p.SKU] = true
		if _, _, err := event.ParseSubject(event.StockAdded.Subject(p.SKU)); err != nil {
			t.Errorf("%s cannot be the key of an event: %v", p.SKU, err)
		}
		if strings.Contains(p.Name, " left") { // the stock changes
			t.Errorf("the name of %s says how many there are: %s", p.SKU, p.Name)
		}
		if p.Name == "" || p.Price.Amount <= 0 || p.Price.Currency != catalog.Currency {
			t.Errorf("%+v: want a name and a price in %s", p, catalog.Currency)
		}
		if found, ok := catalog.Find(p.SKU); !ok || found != p {
			t.Errorf("Find(%s) = %+v, %t, want %+v", p.SKU, found, ok, p)
		}
	}
	for sku, want := range map[string]int{"LAST-ONE": 1, "SOLD-OUT": 0} {
		if p, ok := catalog.Find(sku); !ok || p.InitialStock != want {
			t.Errorf("stock of %s = %d (found: %t), want %d", sku, p.InitialStock, ok, want)
		}
	}
	for _, sku := range []string{"", "trail-map", "TRAIL-MAP ", "*"} {
		if p, ok := catalog.Find(sku); ok {
			t.Errorf("Find(%q) = %+v, want none", sku, p)
		}
	}
	products[0].Price.Amount = 1 // a copy
	if again := catalog.Products()[0]; again.Price.Amount == 1 {
		t.Error("a caller's change reached the catalogue")
	}
}
