// Package payments charges cards, and refunds the charge when the order is cancelled.
//
//	consumes               decides                   publishes
//	orders.created         does the card pay?        payments.confirmed or payments.declined
//	fulfillment.cancelled  what is to be refunded?   payments.refunded, or payments.declined if it came first
package payments

import (
	"context"
	"errors"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// Name is the name of the service and of its durable consumer.
const Name = "payments"

type payments struct {
	*service.Runtime
	gateway Gateway
}

func (p *payments) durable() stream.Durable {
	return stream.Durable{
		Name: Name, Stream: stream.OrdersStream,
		On: []stream.Subscription{
			stream.On(event.OrderCreated, p.pay),           // confirmed or declined
			stream.On(event.FulfillmentCancelled, p.close), // refunded, or declined if it came first
		},
		BeforeDeadLetter: p.giveUp,
	}
}

// Service is payments with the simulated card gateway.
var Service = service.Definition{Name: Name, Durables: []stream.Durable{new(payments).durable()}, Wire: Wire}

// Wire makes the service with the simulated card gateway.
func Wire(rt *service.Runtime) (service.Part, error) { return New(rt, SimulatedGateway{}), nil }

// New makes the service.
func New(rt *service.Runtime, gateway Gateway) service.Part {
	p := &payments{rt, gateway}
	return service.Part{Run: func(ctx context.Context) error { return rt.Stream.Consume(ctx, p.durable()) }}
}

// pay decides the order's payment. A redelivery, another replica and close may decide
// it at the same time: one of them publishes, and a charge that came too late is
// refunded.
func (p *payments) pay(ctx context.Context, e event.Event, order event.Created) error {
	if e.Redriven {
		// The order may have ended long ago: do not charge for it.
		if settled, err := p.settled(ctx, e); settled || err != nil {
			return err
		}
	}
	chargeID, err := p.charge(ctx, Charge{
		Key: order.OrderID, Token: order.Payment.Token, Amount: order.Total, Attempt: e.Delivery,
	})
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	var outcome event.Draft
	switch {
	case err == nil:
		outcome = event.Draft{Type: event.PaymentConfirmed, Payload: event.Charge{OrderKey: order.OrderKey, ChargeID: chargeID, Amount: order.Total}}
	case errors.Is(err, ErrDeclined):
		outcome = declined(order.OrderKey, event.ReasonPaymentDeclined)
	default:
		return err
	}
	_, err = p.Stream.PublishOnce(ctx, outcome, stream.First(outcome.Type, e.Key))
	switch {
	case !errors.Is(err, stream.ErrConflict):
		return err
	case outcome.Type == event.PaymentConfirmed:
		return p.refund(ctx, e.Key) // the order was closed during the charge
	}
	return nil
}

// giveUp refunds the charge of an order that is closed already: whether the last
// attempt took the money is unknown. For any other order close refunds it.
func (p *payments) giveUp(ctx context.Context, e event.Event) error {
	if e.Type != event.OrderCreated {
		return nil
	}
	_, err := p.settled(ctx, e)
	return err
}

// settled reports whether the payment has its outcome, or can no longer get one; then
// it refunds what earlier deliveries may have charged, unless it was confirmed.
func (p *payments) settled(ctx context.Context, e event.Event) (bool, error) {
	events, err := p.Stream.History(ctx, e, event.PaymentConfirmed, event.PaymentDeclined, event.FulfillmentCancelled)
	if err != nil {
		return false, err
	}
	if _, confirmed := event.Find(events, event.PaymentConfirmed); confirmed {
		return true, nil
	}
	_, declined := event.Find(events, event.PaymentDeclined)
	_, cancelled := event.Find(events, event.FulfillmentCancelled)
	if declined || cancelled {
		return true, p.refund(ctx, e.Key)
	}
	return false, nil
}

// close ends the payment of a cancelled order, whether it is confirmed, declined or
// still undecided.
func (p *payments) close(ctx context.Context, e event.Event, order event.Conclusion) error {
	events, err := p.Stream.History(ctx, e, event.PaymentConfirmed, event.PaymentDeclined)
	if err != nil {
		return err
	}
	if _, declined := event.Find(events, event.PaymentDeclined); declined {
		return nil // nothing was charged
	}
	// Refund before publishing: in the other order, a crash in between would keep the money.
	if err := p.refund(ctx, e.Key); err != nil {
		return err
	}
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	confirmed, ok := event.Find(events, event.PaymentConfirmed)
	if !ok {
		// Decide the payment, so that a charge that is running finds the order closed.
		d := declined(order.OrderKey, event.ReasonOrderCancelled)
		_, err := p.Stream.PublishOnce(ctx, d, stream.First(d.Type, e.Key))
		conflict := new(stream.Conflict)
		if !errors.As(err, &conflict) {
			return err
		}
		// It was decided since the events were read.
		if _, declined := event.Find(conflict.Events, event.PaymentDeclined); declined {
			return nil
		}
		if confirmed, ok = event.Find(conflict.Events, event.PaymentConfirmed); !ok {
			return stream.Permanent(err) // a foreign message has the outcome's place
		}
		if err := p.refund(ctx, e.Key); err != nil {
			return err
		}
	}
	charge, err := event.Decode[event.Charge](confirmed)
	if err != nil {
		return err
	}
	charge.Customer = &order.Customer
	_, err = p.Stream.PublishOnce(ctx, event.Draft{Type: event.PaymentRefunded, Payload: charge},
		stream.After(event.PaymentRefunded, e.Key, confirmed.Sequence))
	return err
}

func declined(order event.OrderKey, reason string) event.Draft {
	return event.Draft{Type: event.PaymentDeclined, Payload: event.Refused{OrderKey: order, Reason: reason}}
}

func (p *payments) charge(ctx context.Context, c Charge) (id string, err error) {
	err = p.Call(ctx, "charge card", func(ctx context.Context) error {
		id, err = p.gateway.Charge(ctx, c)
		return err
	}, ErrDeclined)
	return id, err
}

func (p *payments) refund(ctx context.Context, key string) error {
	return p.Undo(ctx, "refund card", func(ctx context.Context) error { return p.gateway.Refund(ctx, key) })
}
