package systemtest

import (
	"context"
	"maps"
	"net/http"
	"sync"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/payments"
)

// World is the world outside: the card gateway, the carrier and the mail server. All
// replicas share it, and it records the effects under each key.
type World struct {
	// Before and Did, if set, are called before and after each effect with its name
	// ("charge", "refund", "book", "unbook", "mail") and the order, or the mail's
	// Message-ID. They may delay the effect or its answer, kill the service, or return an
	// error: from Before the effect does not happen, from Did its answer is lost.
	Before, Did func(ctx context.Context, effect, order string) error

	money   bool // it goes through this world
	gateway payments.SimulatedGateway
	carrier fulfillment.SimulatedCarrier

	mu       sync.Mutex
	captured map[string]int64 // by order, in minor units: taken and not given back
	charges  map[string]int   // calls
	parcels  map[string]bool  // booked, and not taken back
	bookings map[string]int   // calls
	mails    map[string]int   // by Message-ID
}

// NewWorld makes a world in which nothing has happened.
func NewWorld() *World {
	return &World{
		captured: map[string]int64{}, charges: map[string]int{},
		parcels: map[string]bool{}, bookings: map[string]int{}, mails: map[string]int{},
	}
}

// Use has the services of a system deal with this world.
func (w *World) Use(cfg *Config) {
	w.money = true
	w.UseCarrier(cfg)
	cfg.Wire[payments.Name] = func(rt *service.Runtime) (service.Part, error) { return payments.New(rt, w), nil }
	cfg.Wire[notify.Name] = func(rt *service.Runtime) (service.Part, error) { return notify.New(rt, w), nil }
}

// UseCarrier has fulfillment alone deal with this world.
func (w *World) UseCarrier(cfg *Config) {
	if cfg.Wire == nil {
		cfg.Wire = map[string]service.Wire{}
	}
	cfg.Wire[fulfillment.Name] = func(rt *service.Runtime) (service.Part, error) { return fulfillment.New(rt, w), nil }
}

// Idle wires a service that does nothing, for tests that play its part.
func Idle(*service.Runtime) (service.Part, error) {
	return service.Part{HTTP: http.NotFoundHandler(), Run: func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}}, nil
}

// effect does something between the hooks.
func (w *World) effect(ctx context.Context, name, order string, do func() error) error {
	if w.Before != nil {
		if err := w.Before(ctx, name, order); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if w.Did != nil {
		return w.Did(ctx, name, order)
	}
	return nil
}

// note changes the books.
func (w *World) note(change func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	return nil
}

// Charge takes the money once per key.
func (w *World) Charge(ctx context.Context, c payments.Charge) (id string, err error) {
	err = w.effect(ctx, "charge", c.Key, func() error {
		if id, err = w.gateway.Charge(ctx, c); err != nil {
			return err
		}
		return w.note(func() {
			if w.charges[c.Key]++; w.charges[c.Key] == 1 {
				w.captured[c.Key] = c.Amount.Amount
			}
		})
	})
	return id, err
}

// Refund gives back the captured amount.
func (w *World) Refund(ctx context.Context, key string) error {
	return w.effect(ctx, "refund", key, func() error { return w.note(func() { w.captured[key] = 0 }) })
}

// Book books one parcel per key.
func (w *World) Book(ctx context.Context, key, address string) (id string, err error) {
	err = w.effect(ctx, "book", key, func() error {
		if id, err = w.carrier.Book(ctx, key, address); err != nil {
			return err
		}
		return w.note(func() { w.bookings[key]++; w.parcels[key] = true })
	})
	return id, err
}

// Cancel takes the parcel back.
func (w *World) Cancel(ctx context.Context, key string) error {
	return w.effect(ctx, "unbook", key, func() error { return w.note(func() { w.parcels[key] = false }) })
}

// Send counts the mail.
func (w *World) Send(ctx context.Context, m outbox.Mail) error {
	return w.effect(ctx, "mail", m.ID, func() error { return w.note(func() { w.mails[m.ID]++ }) })
}

// Channel names the way that mail takes.
func (w *World) Channel() string { return "test" }

// Captured returns the amount that was taken for an order and not given back.
func (w *World) Captured(order string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.captured[order]
}

// Parcel reports whether a parcel of the order is on its way.
func (w *World) Parcel(order string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parcels[order]
}

// Bookings is how often the carrier was asked to book the order's parcel.
func (w *World) Bookings(order string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bookings[order]
}

// Sent returns how often each mail was sent, by Message-ID.
func (w *World) Sent() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.mails)
}

// Mails is how often the mail about a fact was sent.
func (w *World) Mails(fact event.Type, order string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mails[notify.MessageID(fact, order)]
}
