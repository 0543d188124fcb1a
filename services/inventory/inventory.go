// Package inventory keeps the stock.
//
//	consumes               decides                     publishes
//	orders.created         is every item in stock?     inventory.reserved (all items) or inventory.rejected
//	fulfillment.cancelled  what goes back into stock?  inventory.released, or inventory.rejected if it came first
//	its own, stock.>       how many units are left?    stock.added (the first stock), stock.lease.main
//
// One replica decides at a time; the others stand by. It folds stock and decisions
// from the stream, so it needs no database, and it decides in stream order, so it
// needs no locks. It stores snapshots of what it has folded, so that its successor
// need not read the whole stream.
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
func Wire(rt *service.Runtime) (service.Part, error) { return New(rt, snapshotEvery), nil }

// New makes the service, which stores a snapshot after every that many messages.
func New(rt *service.Runtime, every int) service.Part {
	return service.Part{Run: func(ctx context.Context) error {
		return lead(ctx, rt, func(ctx context.Context) error {
			t := &term{Runtime: rt}
			if err := t.begin(ctx, every); err != nil {
				return err
			}
			defer t.snapshots.wait()
			return rt.Stream.Follow(ctx, consumes, t.at, func(m jetstream.Msg) error { return t.next(ctx, m) })
		})
	}}
}

// term is one replica's time as the active writer. It folds the stream from the last
// snapshot on, and decides from its own lease message on.
type term struct {
	*service.Runtime
	folded    *stock          // by the events up to at, and nothing else
	at        stream.Position // behind the last message that was read
	snapshots *snapshots      // of folded
	read      int             // messages
	token     uint64          // the fencing token: the sequence of this term's stock.lease.main
	// stock is folded, and the decisions that this term has published and not read yet.
	// It is there when the term is active.
	stock *stock
	// active is set when the term has read its own lease message: everything that an
	// earlier writer decided comes before it, and nothing can come after it.
	active bool
}

// errEventsGone ends a term that cannot know the stock.
var errEventsGone = errors.New("events that the stock depends on are gone, and nothing is decided: restore stream " + stream.OrdersStream + " from a backup")

// begin loads the last snapshot, seeds the stock of products that have none, and
// fences every earlier writer.
func (t *term) begin(ctx context.Context, every int) error {
	ctx, span := t.Tracer.Start(ctx, "take over stock")
	defer span.End()
	t.snapshots = newSnapshots(t.Stream, t.Log, every)
	if err := t.restore(ctx); err != nil {
		return err
	}
	for _, p := range catalog.Products() {
		if _, seeded := t.folded.available[p.SKU]; seeded {
			continue
		}
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

// restore sets the stock and the position of the last snapshot, or empty ones if there
// is none of this stream.
func (t *term) restore(ctx context.Context) error {
	extent, err := t.Stream.AwaitExtent(ctx)
	if err != nil {
		return err
	}
	t.folded, t.at = newStock(), extent.Start()
	snap, ok, err := t.snapshots.load(ctx)
	if err != nil {
		return err
	}
	if ok {
		err = t.Stream.Verify(ctx, snap.Position)
	}
	switch {
	case errors.Is(err, stream.ErrReplaced):
		t.Log.WarnContext(ctx, "ignored the stored stock, which is of another stream", "error", err)
	case err != nil:
		return err
	case ok:
		t.folded, t.at = snap.stock(), snap.Position
	}
	if extent.First > t.at.Sequence+1 {
		// A consumer would start later, without an error.
		return fmt.Errorf("%w: the stream begins at sequence %d, the stock is known up to %d", errEventsGone, extent.First, t.at.Sequence)
	}
	return nil
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
		return fmt.Errorf("publish the lease message: %w", stream.Plain(err))
	}
	t.token = ack.Sequence
	return nil
}

// next folds one message of the stream, and decides if it requests a decision. An
// error ends the term.
func (t *term) next(ctx context.Context, m jetstream.Msg) error {
	defer t.snapshots.folded(t.active, func() snapshot { return t.folded.snapshot(t.at) })
	t.read++
	t.at = t.at.After(m)
	e, err := stream.EventOf(m)
	if err == nil {
		err = t.folded.apply(e)
	}
	if err == nil && t.active {
		err = t.stock.apply(e)
	}
	switch {
	case err != nil:
		t.Log.WarnContext(ctx, "ignored a message", "subject", m.Subject(), "error", err)
	case t.active:
		return t.answer(ctx, e, m)
	case t.at.Sequence == t.token:
		return t.takeOver(ctx)
	case t.at.Sequence > t.token:
		return fmt.Errorf("%w: this term's lease message %d is gone", stream.ErrReplaced, t.token)
	}
	return nil
}

// answer makes the decision that e requests, if any.
func (t *term) answer(ctx context.Context, e event.Event, m jetstream.Msg) error {
	o := t.stock.orders[e.Key]
	if o == nil || o.asked != e.Sequence { // closed already, or e requests no decision
		return nil
	}
	o.todo = m
	return t.decide(ctx, e.Key, o)
}

// takeOver makes the decisions that were left open, in stream order.
func (t *term) takeOver(ctx context.Context) error {
	t.active, t.stock = true, t.folded.clone()
	t.Stream.Duty(dutyWrite, nil)
	// After a long fold, the next takeover starts here.
	t.snapshots.store(t.folded.snapshot(t.at))
	open := t.stock.undecided()
	t.Log.InfoContext(ctx, "inventory is the active writer", "token", t.token, "events_read", t.read, "orders_waiting", len(open))
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
	if o.todo == nil {
		var err error
		if o.todo, err = t.Stream.MessageAt(ctx, o.asked); err != nil {
			return err
		}
	}
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
