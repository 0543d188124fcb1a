// Package payments charges cards, and gives the money back when an order is
// cancelled after all.
//
//	consumes               decides                      publishes
//	orders.created         does the card pay?           payments.confirmed or payments.declined
//	fulfillment.cancelled  what is there to give back?  payments.refunded, or payments.declined if it came first
package payments

import (
	"context"
	"errors"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// Name is the service's, and its durable consumer's.
const Name = "payments"

// Consumes lists the events that payments acts on.
var Consumes = []string{
	event.OrderCreated.Every(),         // charge, then confirmed or declined
	event.FulfillmentCancelled.Every(), // close: refund what was charged
}

type payments struct {
	*service.Runtime
	gateway Gateway
}

// Service is payments with the simulated card gateway.
var Service = service.Definition{
	Name:    Name,
	Durable: stream.Durable{Name: Name, Stream: stream.OrdersStream, Filters: Consumes},
	Wire:    Wire,
}

// Wire makes the service with the simulated card gateway.
func Wire(rt *service.Runtime) (service.Part, error) { return New(rt, SimulatedGateway{}), nil }

// New makes the service.
func New(rt *service.Runtime, gateway Gateway) service.Part {
	p := &payments{rt, gateway}
	return service.Part{Run: func(ctx context.Context) error {
		return rt.Stream.Consume(ctx, Name, p.handle, stream.BeforeDeadLetter(p.giveUp))
	}}
}

func (p *payments) handle(ctx context.Context, e event.Event) error {
	switch e.Type {
	case event.OrderCreated:
		return p.pay(ctx, e)
	case event.FulfillmentCancelled:
		return p.close(ctx, e)
	}
	return nil
}

// giveUp leaves no charge behind of an order that is closed already: whether the
// last try took the money is unknown. Of any other order close gives it back.
func (p *payments) giveUp(ctx context.Context, e event.Event) error {
	if e.Type != event.OrderCreated {
		return nil
	}
	_, err := p.decided(ctx, e)
	return err
}

// pay decides the order's payment. Of all who decide it (a redelivery, another
// replica, close) one publishes; who comes too late takes back what it did.
func (p *payments) pay(ctx context.Context, e event.Event) error {
	order, err := event.Decode[event.Created](e)
	if err != nil {
		return err
	}
	if e.Redriven {
		// Long after: the order may have ended, and nobody's card is charged for that.
		if decided, err := p.decided(ctx, e); decided || err != nil {
			return err
		}
	}
	outcome := event.Draft{Type: event.PaymentConfirmed}
	chargeID, err := p.charge(ctx, Charge{
		Key: order.OrderID, Token: order.Payment.Token, Amount: order.Total, Attempt: e.Delivery,
	})
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	switch {
	case err == nil:
		outcome.Payload = event.Charge{OrderKey: order.OrderKey, ChargeID: chargeID, Amount: order.Total}
	case errors.Is(err, ErrDeclined):
		outcome = declined(order.OrderKey, event.ReasonPaymentDeclined)
	default:
		return err
	}
	_, err = p.Stream.PublishOnce(ctx, outcome, stream.First(outcome.Type, e.Key))
	if errors.Is(err, stream.ErrConflict) && outcome.Type == event.PaymentConfirmed {
		return p.refund(ctx, e.Key) // closed while we charged
	}
	if errors.Is(err, stream.ErrConflict) {
		return nil
	}
	return err
}

// decided tells whether there is an outcome of the order's payment, or can be none
// any more. If that is no charge, what earlier deliveries may have charged goes
// back.
func (p *payments) decided(ctx context.Context, e event.Event) (bool, error) {
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

// close ends payment's side of a cancelled order, whatever stage it is at.
func (p *payments) close(ctx context.Context, e event.Event) error {
	cancelled, err := event.Decode[event.Conclusion](e)
	if err != nil {
		return err
	}
	events, err := p.Stream.History(ctx, e, event.PaymentConfirmed, event.PaymentDeclined)
	if err != nil {
		return err
	}
	for {
		if _, ok := event.Find(events, event.PaymentDeclined); ok {
			return nil // nothing was charged
		}
		// The money goes back before the fact is told: told first, a crash in
		// between would keep it.
		if err := p.refund(ctx, e.Key); err != nil {
			return err
		}
		ctx, cancel := stream.AfterEffect(ctx)
		defer cancel()
		confirmed, ok := event.Find(events, event.PaymentConfirmed)
		if !ok {
			// Nothing decided yet: decide it, so that a charge still under way finds
			// the order closed.
			d := declined(cancelled.OrderKey, event.ReasonOrderCancelled)
			_, err = p.Stream.PublishOnce(ctx, d, stream.First(d.Type, e.Key))
			if conflict := new(stream.Conflict); errors.As(err, &conflict) {
				events = conflict.Events
				_, paid := event.Find(events, event.PaymentConfirmed)
				_, refused := event.Find(events, event.PaymentDeclined)
				if paid || refused { // after we looked
					continue
				}
				return stream.Permanent(err) // a foreign message is in the outcome's place
			}
			return err
		}
		charge, err := event.Decode[event.Charge](confirmed)
		if err != nil {
			return err
		}
		charge.Customer = &cancelled.Customer
		_, err = p.Stream.PublishOnce(ctx, event.Draft{Type: event.PaymentRefunded, Payload: charge},
			stream.After(event.PaymentRefunded, e.Key, confirmed.Sequence))
		return err
	}
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
