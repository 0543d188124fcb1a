// Package fulfillment is the fan-in: it concludes every order exactly once.
//
//	consumes                           decides                          publishes
//	payments.confirmed, .declined      the second outcome decides:      fulfillment.shipped
//	inventory.reserved, .rejected      are payment and stock there?     or fulfillment.cancelled
//	orders.cancelled                   it decides if it came before     fulfillment.cancelled
//
// A deciding event that cannot be handled still ends its order: cancelled, with no
// parcel on its way.
package fulfillment

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// Name is the service's, and its durable consumer's.
const Name = "fulfillment"

// Consumes lists the events that can decide an order.
var Consumes = []string{
	event.PaymentConfirmed.Every(), event.PaymentDeclined.Every(), // one outcome
	event.InventoryReserved.Every(), event.InventoryRejected.Every(), // the other
	event.OrderCancelled.Every(), // the customer (or the deadline) was first
}

// reads lists what the verdict about an order depends on, and what comes of it.
var reads = []event.Type{
	event.OrderCreated, event.OrderCancelled,
	event.PaymentConfirmed, event.PaymentDeclined,
	event.InventoryReserved, event.InventoryRejected,
	event.FulfillmentShipped, event.FulfillmentCancelled,
}

type fulfillment struct {
	*service.Runtime
	carrier Carrier
}

// Service is fulfillment with the simulated carrier.
var Service = service.Definition{
	Name:    Name,
	Durable: stream.Durable{Name: Name, Stream: stream.OrdersStream, Filters: Consumes},
	Wire:    Wire,
}

// Wire makes the service with the simulated carrier.
func Wire(rt *service.Runtime) (service.Part, error) { return New(rt, SimulatedCarrier{}), nil }

// New makes the service.
func New(rt *service.Runtime, carrier Carrier) service.Part {
	f := &fulfillment{rt, carrier}
	return service.Part{Run: func(ctx context.Context) error {
		return rt.Stream.Consume(ctx, Name, f.handle, stream.BeforeDeadLetter(f.giveUp))
	}}
}

// handle reads the order's events back from the stream and concludes the order
// if e is the one that decides it. It remembers nothing between events: any
// replica can take any of them, in any order, again and again.
func (f *fulfillment) handle(ctx context.Context, e event.Event) error {
	return f.decide(ctx, e, f.fulfil)
}

// giveUp concludes the order that e decides without the carrier: after e nothing
// else would.
func (f *fulfillment) giveUp(ctx context.Context, e event.Event) error {
	return f.decide(ctx, e, f.abandon)
}

// ending is how an order ends: which event says so, and what it says beside the
// order.
type ending struct {
	event  event.Type
	reason string
	parcel string
	unbook bool // a parcel may be booked that must not leave
}

func (f *fulfillment) decide(ctx context.Context, e event.Event, end func(context.Context, event.Created, verdict) (ending, error)) error {
	events, err := f.Stream.History(ctx, e, reads...)
	if err != nil {
		return err
	}
	verdict, decided := judge(events, e.Sequence)
	if !decided {
		return nil // another event decides, or has decided
	}
	if _, shipped := event.Find(events, event.FulfillmentShipped); shipped {
		return nil // by an earlier delivery of e
	}
	if _, cancelled := event.Find(events, event.FulfillmentCancelled); cancelled {
		return f.unbook(ctx, e.Key) // an earlier delivery may have booked, and not come to an end
	}
	order, err := event.Decode[event.Created](verdict.created)
	if err != nil {
		return err
	}
	return f.conclude(ctx, order, verdict, end)
}

// conclude ships or cancels, and says so. Only the deciding event's handler gets
// here, so at most one parcel is booked, whoever else handles what.
func (f *fulfillment) conclude(ctx context.Context, order event.Created, v verdict, end func(context.Context, event.Created, verdict) (ending, error)) (err error) {
	var links []trace.Link
	if v.payment.Sequence > 0 {
		links = append(links, f.link(v.payment, "payment_confirmation"))
	}
	if v.inventory.Sequence > 0 {
		links = append(links, f.link(v.inventory, "inventory_reservation"))
	}
	ctx, span := f.Tracer.Start(ctx, "fulfill order", trace.WithLinks(links...),
		trace.WithAttributes(attribute.Int("fulfillment.trigger_count", len(links))))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, "fulfill order")
			span.SetAttributes(attribute.String("error.type", "fulfillment_error"))
		}
		span.End()
	}()

	how, err := end(ctx, order, v)
	if err != nil {
		return err
	}
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	span.SetAttributes(attribute.String("fulfillment.status", status(how.event)))
	_, err = f.Stream.PublishOnce(ctx, event.Draft{Type: how.event, Payload: event.Conclusion{
		OrderKey: order.OrderKey, Reason: how.reason, ParcelID: how.parcel,
		Customer: order.Customer, Items: order.Items, Total: order.Total,
	}}, stream.First(how.event, order.OrderID))
	if err == nil && how.unbook {
		// Not before it is said: an earlier delivery's handler may still be about to
		// say that the parcel is on its way.
		return f.unbook(ctx, order.OrderID)
	}
	conflict := new(stream.Conflict)
	if !errors.As(err, &conflict) {
		return err
	}
	if how.event == event.FulfillmentShipped {
		if err := f.unbook(ctx, order.OrderID); err != nil { // it ended otherwise: no parcel may leave
			return err
		}
	}
	if len(conflict.Events) == 0 { // a foreign message is in the conclusion's place
		return stream.Permanent(err)
	}
	return nil
}

// fulfil ends an order as the verdict says, if the carrier agrees.
func (f *fulfillment) fulfil(ctx context.Context, order event.Created, v verdict) (ending, error) {
	if !v.ship {
		return ending{event: event.FulfillmentCancelled, reason: v.reason}, nil
	}
	parcel, err := f.book(ctx, order)
	if errors.Is(err, ErrRefused) {
		return ending{event: event.FulfillmentCancelled, reason: event.ReasonUndeliverable}, nil
	}
	return ending{event: event.FulfillmentShipped, parcel: parcel}, err
}

// abandon ends an order that could not be ended as the verdict says. Whether its
// parcel was booked is unknown.
func (f *fulfillment) abandon(_ context.Context, _ event.Created, v verdict) (ending, error) {
	if !v.ship {
		return ending{event: event.FulfillmentCancelled, reason: v.reason}, nil
	}
	return ending{event: event.FulfillmentCancelled, reason: event.ReasonUndeliverable, unbook: true}, nil
}

// link points at the span that published a stored outcome.
func (f *fulfillment) link(e event.Event, relationship string) trace.Link {
	return f.Tracing.Link(e.Header, tracing.RelationshipKey.String(relationship), event.OrderIDKey.String(e.Key))
}

func status(t event.Type) string {
	if t == event.FulfillmentShipped {
		return "shipped"
	}
	return "cancelled"
}

func (f *fulfillment) book(ctx context.Context, order event.Created) (parcel string, err error) {
	err = f.Call(ctx, "book parcel", func(ctx context.Context) error {
		parcel, err = f.carrier.Book(ctx, order.OrderID, order.Shipping.Address)
		return err
	}, ErrRefused)
	return parcel, err
}

func (f *fulfillment) unbook(ctx context.Context, id string) error {
	return f.Undo(ctx, "cancel parcel", func(ctx context.Context) error { return f.carrier.Cancel(ctx, id) })
}
