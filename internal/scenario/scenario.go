// Package scenario holds orders with a known course: their content decides it, like a
// card processor's test cards. The shop's page has a button for each, the demo plays
// them, and tests check how each ends.
package scenario

// Scenario is the order of a customer, and its course.
type Scenario struct {
	Name   string
	Story  string
	Token  string
	SKUs   []string // one of each
	Addr   string
	Cancel bool // the customer changes their mind at once
}

// The customer of all scenarios. Example domains are reserved (RFC 2606).
const (
	CustomerName  = "Robin Example"
	CustomerEmail = "robin@example.com"
	Address       = "1 Trailhead Way, 12345 Sampleton"
)

// All returns one of each kind.
func All() []Scenario {
	happy := []string{"TRAIL-MAP", "COMPASS"}
	return []Scenario{
		{Name: "happy", Story: "paid, in stock, shipped", Token: "tok_ok", SKUs: happy, Addr: Address},
		{Name: "declined", Story: "the card is declined, the stock goes back", Token: "tok_declined", SKUs: happy, Addr: Address},
		{Name: "sold-out", Story: "not in stock, the money goes back", Token: "tok_ok", SKUs: []string{"TRAIL-MAP", "SOLD-OUT"}, Addr: Address},
		{Name: "undeliverable", Story: "the carrier refuses the parcel: cancelled late", Token: "tok_ok", SKUs: happy, Addr: "undeliverable, " + Address},
		{Name: "flaky", Story: "the card gateway fails twice, redelivery heals it", Token: "tok_flaky", SKUs: happy, Addr: Address},
		{Name: "slow", Story: "the card gateway takes a second", Token: "tok_slow", SKUs: happy, Addr: Address},
		{Name: "cancelled", Story: "the customer cancels while the card is being charged", Token: "tok_slow", SKUs: happy, Addr: Address, Cancel: true},
		{Name: "poison", Story: "the card gateway never answers: a dead letter, then the deadline cancels", Token: "tok_poison", SKUs: happy, Addr: Address},
	}
}

// Find returns the scenario of this name.
func Find(name string) (Scenario, bool) {
	for _, s := range All() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// Request is the body of the scenario's POST /orders, to be encoded as JSON.
func (s Scenario) Request() map[string]any {
	items := make([]map[string]any, len(s.SKUs))
	for i, sku := range s.SKUs {
		items[i] = map[string]any{"sku": sku, "quantity": 1}
	}
	return map[string]any{
		"customer": map[string]string{"name": CustomerName, "email": CustomerEmail},
		"items":    items,
		"payment":  map[string]string{"token": s.Token},
		"shipping": map[string]string{"address": s.Addr},
	}
}

// Card is a token that the card gateway knows.
type Card struct{ Token, Story string }

// Cards returns all of them.
func Cards() []Card {
	return []Card{
		{"tok_ok", "charged at once"},
		{"tok_slow", "charged after a second"},
		{"tok_flaky", "fails twice, then charged"},
		{"tok_declined", "declined"},
		{"tok_poison", "always fails"},
	}
}
