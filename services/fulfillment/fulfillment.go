// Package fulfillment is the fan-in: it concludes every order exactly once.
//
//	consumes                           decides                            publishes
//	payments.confirmed, .declined      the second outcome decides:        fulfillment.shipped
//	inventory.reserved, .rejected      paid, and everything in stock?     or fulfillment.cancelled
//	orders.cancelled                   decides if it came before those    fulfillment.cancelled
//
// If the deciding event cannot be handled, the order is cancelled, and no parcel
// leaves.
package fulfillment

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// Name is the name of the service and of its durable consumer.
const Name = "fulfillment"

type fulfillment struct {
	*service.Runtime
	carrier Carrier
}

func (f *fulfillment) durable() stream.Durable {
	return stream.Durable{
		Name: Name, Stream: stream.OrdersStream,
		On: stream.OnEach(f.conclude,
			event.PaymentConfirmed, event.PaymentDeclined, // one outcome
			event.InventoryReserved, event.InventoryRejected, // the other outcome
			event.OrderCancelled, // by the customer or the deadline
		),
		BeforeDeadLetter: f.giveUp,
	}
}

// reads lists the types of events that the verdict depends on, and those that
// conclude the order.
var reads = []event.Type{
	event.OrderCreated, event.OrderCancelled,
	event.PaymentConfirmed, event.PaymentDeclined,
	event.InventoryReserved, event.InventoryRejected,
	event.FulfillmentShipped, event.FulfillmentCancelled,
}

// Service is fulfillment with the simulated carrier.
var Service = service.Definition{Name: Name, Durables: []stream.Durable{new(fulfillment).durable()}, Wire: Wire}

// Wire makes the service with the simulated carrier.
func Wire(rt *service.Runtime) (service.Part, error) { return New(rt, SimulatedCarrier{}), nil }

// New makes the service.
func New(rt *service.Runtime, carrier Carrier) service.Part {
	f := &fulfillment{rt, carrier}
	return service.Part{Run: func(ctx context.Context) error { return rt.Stream.Consume(ctx, f.durable()) }}
}

// conclude concludes the order if e decides it. It keeps no state between events: any
// replica can handle any of them, in any order, any number of times.
func (f *fulfillment) conclude(ctx context.Context, e event.Event) error { return f.end(ctx, e, false) }

// giveUp concludes the order that e decides, but without the carrier: if e becomes a
// dead letter, no other event concludes the order.
func (f *fulfillment) giveUp(ctx context.Context, e event.Event) error { return f.end(ctx, e, true) }

func (f *fulfillment) end(ctx context.Context, e event.Event, givenUp bool) error {
	events, err := f.Stream.History(ctx, e, reads...)
	if err != nil {
		return err
	}
	v, decides := judge(events, e.Sequence)
	if !decides {
		return nil // another event does
	}
	if _, shipped := event.Find(events, event.FulfillmentShipped); shipped {
		return nil // by an earlier delivery of e
	}
	if _, cancelled := event.Find(events, event.FulfillmentCancelled); cancelled {
		return f.unbook(ctx, e.Key) // an earlier delivery of e may have booked a parcel before it crashed
	}
	order, err := event.Decode[event.Created](v.created)
	if err != nil {
		return err
	}
	ctx, span := f.startSpan(ctx, v)
	defer span.End()
	if err := f.shipOrCancel(ctx, order, v, givenUp); err != nil {
		span.SetStatus(codes.Error, "fulfill order")
		span.SetAttributes(attribute.String("error.type", "fulfillment_error"))
		return err
	}
	return nil
}

// shipOrCancel carries the verdict out, and publishes it. Only the handler of the
// deciding event calls it, so at most one parcel is booked.
func (f *fulfillment) shipOrCancel(ctx context.Context, order event.Created, v verdict, givenUp bool) error {
	ending, reason, parcel := event.FulfillmentCancelled, v.reason, ""
	switch {
	case !v.ship:
	case givenUp:
		reason = event.ReasonUndeliverable // whether an earlier delivery booked a parcel is unknown
	default:
		var err error
		parcel, err = f.book(ctx, order)
		switch {
		case err == nil:
			ending = event.FulfillmentShipped
		case errors.Is(err, ErrRefused):
			reason = event.ReasonUndeliverable
		default:
			return err
		}
	}
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	shipped := ending == event.FulfillmentShipped
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("fulfillment.status", strings.TrimPrefix(string(ending), Name+".")))
	_, err := f.Stream.PublishOnce(ctx, event.Draft{Type: ending, Payload: event.Conclusion{
		OrderKey: order.OrderKey, Reason: reason, ParcelID: parcel,
		Customer: order.Customer, Items: order.Items, Total: order.Total,
	}}, stream.First(ending, order.OrderID))
	conflict := new(stream.Conflict)
	lost := errors.As(err, &conflict) // the order ended otherwise
	if err != nil && !lost {
		return err
	}
	// No parcel may leave for a cancelled order. It is unbooked only now, because until
	// the event is stored, the handler of an earlier delivery may still publish shipped.
	if shipped && lost || v.ship && givenUp && !lost {
		if err := f.unbook(ctx, order.OrderID); err != nil {
			return err
		}
	}
	if lost && len(conflict.Events) == 0 {
		return stream.Permanent(err) // a foreign message has the conclusion's place
	}
	return nil
}

// startSpan starts the span of the conclusion, which links the outcomes.
func (f *fulfillment) startSpan(ctx context.Context, v verdict) (context.Context, trace.Span) {
	var links []trace.Link
	link := func(outcome event.Event, relationship string) {
		if outcome.Sequence > 0 {
			links = append(links, f.Tracing.Link(outcome.Header, tracing.RelationshipKey.String(relationship), event.OrderIDKey.String(outcome.Key)))
		}
	}
	link(v.payment, "payment_confirmation")
	link(v.inventory, "inventory_reservation")
	return f.Tracer.Start(ctx, "fulfill order", trace.WithLinks(links...),
		trace.WithAttributes(attribute.Int("fulfillment.trigger_count", len(links))))
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
