// Package inventory keeps the stock.
//
//	consumes               decides                     publishes
//	orders.created         is every item in stock?     inventory.reserved (all items) or inventory.rejected
//	fulfillment.cancelled  what goes back into stock?  inventory.released, or inventory.rejected if it came first
//	its own, stock.>       how many units are left?    stock.added (the first stock), stock.lease.main
//
// One replica decides at a time; the others stand by. It folds stock and decisions
// from the stream, so it needs no database, and it decides in stream order, so it
// needs no locks.
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

// Name is the name of the service and of its lease.
const Name = "inventory"

// consumes lists the events that the state is folded from. The first two request a
// decision.
var consumes = []string{
	event.OrderCreated.Every(),
	event.FulfillmentCancelled.Every(),
	event.FulfillmentShipped.Every(),
	"inventory.*.*",
	"stock.*.*",
}

// If the outcome of a publish is still unknown after this time, the term ends, and
// the next one reads what was stored.
const (
	decisionTimeout = 5 * time.Second
	fenceTimeout    = time.Second
)

// Service is inventory.
var Service = service.Definition{Name: Name, Wire: Wire}

// Wire makes the service.
func Wire(rt *service.Runtime) (service.Part, error) {
	return service.Part{Run: func(ctx context.Context) error {
		return lead(ctx, rt, func(ctx context.Context) error {
			t := &term{Runtime: rt, stock: newStock()}
			if err := t.begin(ctx); err != nil {
				return err
			}
			return rt.Stream.Follow(ctx, consumes, 1, func(m jetstream.Msg) error { return t.next(ctx, m) })
		})
	}}, nil
}

// term is one replica's time as the active writer. It folds the whole stream, and
// decides from its own lease message on.
type term struct {
	*service.Runtime
	stock *stock
	token uint64 // the fencing token: the sequence of this term's stock.lease.main
	// active is set when the term has read its own lease message: everything that an
	// earlier writer decided comes before it, and nothing can come after it.
	active bool
}

// begin seeds the stock, if no earlier term has, and fences every earlier writer.
func (t *term) begin(ctx context.Context) error {
	ctx, span := t.Tracer.Start(ctx, "take over stock")
	defer span.End()
	for _, p := range catalog.Products() {
		seed := event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: p.SKU, Quantity: p.InitialStock}}
		_, err := t.Stream.PublishOnce(ctx, seed, stream.Alone(event.StockAdded, p.SKU))
		if errors.Is(err, stream.ErrConflict) {
			// A foreign message has taken its place, for ever. This product has no stock
			// then; the others are not affected.
			t.Log.ErrorContext(ctx, "cannot seed the stock", "sku", p.SKU, "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return t.fence(ctx)
}

// fence publishes a lease message. Its sequence is the fencing token: the server
// refuses the decisions of every writer with an older one.
func (t *term) fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	m, err := event.Draft{Type: event.StockLease, Payload: event.Lease{Name: event.LeaseKey, Holder: t.Instance}}.Message(time.Now())
	if err != nil {
		return err
	}
	// Without a retry: even if it was stored, the next term publishes its own.
	ack, err := t.Stream.JetStream().PublishMsg(ctx, m)
	if err != nil {
		return fmt.Errorf("publish the lease message: %w", err)
	}
	t.token = ack.Sequence
	return nil
}

// next folds one message of the stream, and decides if it requests a decision. An
// error ends the term.
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

// takeOver makes the decisions that were left open, in stream order.
func (t *term) takeOver(ctx context.Context) error {
	t.active = true
	open := t.stock.undecided()
	t.Log.InfoContext(ctx, "inventory is the active writer", "token", t.token, "orders_waiting", len(open))
	for _, id := range open {
		if ctx.Err() != nil {
			return nil // the next writer continues
		}
		if err := t.decide(ctx, id, t.stock.orders[id]); err != nil {
			return err
		}
	}
	return nil
}

// decide makes the decision that a message requests, in a span that links the
// message's producer.
func (t *term) decide(ctx context.Context, id string, o *order) error {
	// The end of the term does not cut off a decision that has begun.
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

// publish stores a decision and folds it. The server refuses the decision of a writer
// that was replaced.
func (t *term) publish(ctx context.Context, d event.Draft) error {
	stored, err := t.Stream.PublishOnce(ctx, d, stream.Fenced(d.Type, d.Payload.Key(), t.token))
	if err != nil {
		if errors.Is(err, stream.ErrConflict) {
			return fmt.Errorf("%w: another writer has taken over", errLeaseLost)
		}
		return err
	}
	return t.stock.apply(stored.Event)
}
