// Package inventory keeps the stock.
//
//	consumes               decides                   publishes
//	orders.created         is every item there?      inventory.reserved (all of them) or inventory.rejected
//	fulfillment.cancelled  what goes back?           inventory.released, or inventory.rejected if it came first
//	its own, stock.>       what is there?            stock.added (the first stock), stock.lease.main
//
// One replica writes at a time. It folds stock and decisions from the stream, so
// it needs no database, and it decides in stream order, so it needs no locks; the
// others stand by.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// Name is the service's, and its lease's.
const Name = "inventory"

// Consumes lists what the state is folded from; the first two ask for decisions.
var Consumes = []string{
	event.OrderCreated.Every(),         // reserve, then reserved or rejected
	event.FulfillmentCancelled.Every(), // close: release what was reserved
	event.FulfillmentShipped.Every(),
	"inventory.*.*",
	"stock.*.*",
}

// decisionTimeout bounds one decision's publish: an outcome that stays unknown
// longer ends the term, and the next one reads what happened.
const decisionTimeout = 5 * time.Second

// Service is inventory.
var Service = service.Definition{Name: Name, Wire: Wire}

// Wire makes the service.
func Wire(rt *service.Runtime) (service.Part, error) {
	return service.Part{Run: func(ctx context.Context) error {
		return rt.Stream.Lead(ctx, Name, rt.Instance, func(ctx context.Context) error {
			return lead(ctx, rt)
		})
	}}, nil
}

// term is one replica's time as the active writer.
type term struct {
	*service.Runtime
	stock *stock
	token uint64 // the sequence of our stock.lease.main: the fencing token
	// active once we have read our own lease message: what a writer before us
	// decided comes before it, and nothing of theirs can come after it.
	active bool
}

// lead folds the stream, and decides from its own lease message on.
func lead(ctx context.Context, rt *service.Runtime) error {
	t := &term{Runtime: rt, stock: newStock()}
	if err := t.begin(ctx); err != nil {
		return err
	}
	return rt.Stream.Follow(ctx, Consumes, 1, func(m jetstream.Msg) error { return t.next(ctx, m) })
}

// begin seeds the stock, once for ever, and fences every earlier writer.
func (t *term) begin(ctx context.Context) error {
	ctx, span := t.Tracer.Start(ctx, "take over stock")
	defer span.End()
	for _, p := range catalog.Products() {
		seed := event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: p.SKU, Quantity: p.InitialStock}}
		_, err := t.Stream.PublishOnce(ctx, seed, stream.Alone(event.StockAdded, p.SKU))
		if errors.Is(err, stream.ErrConflict) {
			// A foreign message is in its place, for ever. The product has no stock then;
			// the others go on.
			t.Log.ErrorContext(ctx, "cannot seed the stock", "sku", p.SKU, "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	token, err := t.Stream.Fence(ctx, event.Lease{Name: event.LeaseKey, Holder: t.Instance})
	t.token = token
	return err
}

// next takes one message of the stream, in order. An error ends the term.
func (t *term) next(ctx context.Context, m jetstream.Msg) error {
	e, err := stream.EventOf(m)
	if err == nil {
		err = t.stock.apply(e)
	}
	if err != nil {
		t.Log.WarnContext(ctx, "ignored a message", "subject", m.Subject(), "error", err)
		return nil
	}
	switch {
	case e.Type == event.OrderCreated, e.Type == event.FulfillmentCancelled:
		o := t.stock.orders[e.Key]
		if o == nil {
			return nil // closed already
		}
		o.todo, o.asked = m, e.Sequence
		if t.active {
			return t.decide(ctx, e.Key, o)
		}
	case e.Sequence == t.token:
		return t.takeOver(ctx)
	}
	return nil
}

// takeOver decides what was left open, in stream order.
func (t *term) takeOver(ctx context.Context) error {
	t.active = true
	open := t.stock.undecided()
	t.Log.InfoContext(ctx, "inventory is the active writer", "token", t.token, "orders_waiting", len(open))
	for _, id := range open {
		if ctx.Err() != nil {
			return nil // the next writer goes on
		}
		if err := t.decide(ctx, id, t.stock.orders[id]); err != nil {
			return err
		}
	}
	return nil
}

// decide makes the decision that a message asks for, in a span linked to its
// producer.
func (t *term) decide(ctx context.Context, id string, o *order) error {
	// Stopping does not cut short a decision in hand.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), decisionTimeout)
	defer cancel()
	return t.Tracing.Process(ctx, o.todo, func(ctx context.Context, _ jetstream.Msg) error {
		key := event.OrderKey{OrderID: id}
		switch {
		case o.cancelled && o.reserved:
			return t.publish(ctx, event.Draft{Type: event.InventoryReleased, Payload: event.Reservation{OrderKey: key, Items: o.items}})
		case o.cancelled:
			return t.publish(ctx, event.Draft{Type: event.InventoryRejected, Payload: event.Refused{OrderKey: key, Reason: event.ReasonOrderCancelled}})
		case t.stock.suffices(o.items):
			return t.publish(ctx, event.Draft{Type: event.InventoryReserved, Payload: event.Reservation{OrderKey: key, Items: o.items}})
		default:
			return t.publish(ctx, event.Draft{Type: event.InventoryRejected, Payload: event.Refused{OrderKey: key, Reason: event.ReasonOutOfStock}})
		}
	}, tracing.WithLinkAttributes(stream.OrderID))
}

// publish stores a decision and folds it. The server refuses it from a writer that
// was replaced.
func (t *term) publish(ctx context.Context, d event.Draft) error {
	stored, err := t.Stream.PublishOnce(ctx, d, stream.Fenced(d.Type, d.Payload.Key(), t.token))
	if err != nil {
		if errors.Is(err, stream.ErrConflict) {
			return fmt.Errorf("%w: another writer has taken over", stream.ErrLeaseLost)
		}
		return err
	}
	return t.stock.apply(stored.Event)
}
