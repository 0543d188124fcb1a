// Package notify sends mails to customers, once for each of:
//
//	consumes               publishes, when the mail is sent
//	orders.created         notify.received
//	fulfillment.shipped    notify.shipped
//	fulfillment.cancelled  notify.cancelled
//	payments.refunded      notify.refunded
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// Name is the name of the service and of its durable consumer.
const Name = "notify"

type notify struct {
	*service.Runtime
	mailer Mailer
	// unpublished holds the ids of mails that were sent while the stream could not store
	// the event about it: only of events that are being handled, so few.
	unpublished sync.Map
}

func (n *notify) durable() stream.Durable {
	return stream.Durable{Name: Name, Stream: stream.OrdersStream, On: []stream.Subscription{
		stream.On(event.OrderCreated, n.received),
		stream.On(event.FulfillmentShipped, n.shipped),
		stream.On(event.FulfillmentCancelled, n.cancelled),
		stream.On(event.PaymentRefunded, n.refunded),
	}}
}

// Service is notify with an SMTP mailer if SMTP_URL is set, else with mails as its
// outbox; nil for one of its own.
func Service(mails *outbox.Outbox) service.Definition {
	return service.Definition{
		Name:    Name,
		Durable: new(notify).durable(),
		Wire: func(rt *service.Runtime) (service.Part, error) {
			if rt.Settings.SMTPURL == nil {
				return New(rt, cmp.Or(mails, &outbox.Outbox{})), nil
			}
			mailer, err := NewSMTP(rt.Settings.SMTPURL)
			if err != nil {
				return service.Part{}, err
			}
			return New(rt, mailer), nil
		},
	}
}

// New makes the service.
func New(rt *service.Runtime, mailer Mailer) service.Part {
	n := &notify{Runtime: rt, mailer: mailer}
	return service.Part{Run: func(ctx context.Context) error { return rt.Stream.Consume(ctx, n.durable()) }}
}

func (n *notify) received(ctx context.Context, e event.Event, order event.Created) error {
	return n.send(ctx, e, event.NotifyReceived, order.Customer, "We have received your order",
		fmt.Sprintf("thank you for your order over %s. We are looking after it.", amount(order.Total)))
}

func (n *notify) shipped(ctx context.Context, e event.Event, order event.Conclusion) error {
	return n.send(ctx, e, event.NotifyShipped, order.Customer, "Your order is on its way",
		fmt.Sprintf("your parcel %s has left our house.", order.ParcelID))
}

func (n *notify) cancelled(ctx context.Context, e event.Event, order event.Conclusion) error {
	return n.send(ctx, e, event.NotifyCancelled, order.Customer, "Your order was cancelled",
		fmt.Sprintf("your order was cancelled: %s. If we have charged you, the money is on its way back.", explain(order.Reason)))
}

func (n *notify) refunded(ctx context.Context, e event.Event, charge event.Charge) error {
	if charge.Customer == nil {
		return stream.Permanent(errors.New("the refund contains no customer"))
	}
	return n.send(ctx, e, event.NotifyRefunded, *charge.Customer, "Your money is on its way back",
		fmt.Sprintf("we have given back %s.", amount(charge.Amount)))
}

// send sends the mail about e, unless the event fact, that it was sent, is stored
// already, and then publishes fact. After a crash between the two the mail is sent
// again, with the same Message-ID: mail offers no stronger guarantee.
func (n *notify) send(ctx context.Context, e event.Event, fact event.Type, to event.Customer, subject, text string) error {
	mail := outbox.Mail{
		ID: MessageID(fact, e.Key), To: to, Subject: subject,
		Text: fmt.Sprintf("%s\n\nOrder %s\n", text, e.Key),
	}
	events, err := n.Stream.LatestHistory(ctx, e, fact)
	if err != nil {
		return err
	}
	if _, sent := event.Find(events, fact); sent {
		n.unpublished.Delete(mail.ID)
		return nil
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("notification.channel", n.mailer.Channel()))
	// While NATS is away, this handler is called again and again.
	if _, sent := n.unpublished.Load(mail.ID); !sent {
		if err := n.Call(ctx, "send mail", func(ctx context.Context) error { return n.mailer.Send(ctx, mail) }); err != nil {
			return err
		}
		n.unpublished.Store(mail.ID, true)
	}
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	_, err = n.Stream.PublishOnce(ctx, event.Draft{
		Type:    fact,
		Payload: event.MailSent{OrderKey: event.OrderKey{OrderID: e.Key}, MessageID: mail.ID, Channel: n.mailer.Channel()},
	}, stream.Alone(fact, e.Key))
	if !errors.Is(err, stream.ErrUnavailable) {
		n.unpublished.Delete(mail.ID)
	}
	if errors.Is(err, stream.ErrConflict) {
		// A foreign message has the event's place: a retry would only send the mail again.
		return stream.Permanent(err)
	}
	return err
}

// MessageID returns the Message-ID of the mail about a fact of an order. It is the
// same each time.
func MessageID(fact event.Type, order string) string {
	return string(fact) + "." + order + "@ordertrail.example"
}

func amount(m event.Money) string {
	return fmt.Sprintf("%d.%02d %s", m.Amount/100, m.Amount%100, m.Currency)
}

func explain(reason string) string {
	switch reason {
	case event.ReasonCustomer:
		return "you asked us to"
	case event.ReasonDeadline:
		return "we could not conclude it in time"
	case event.ReasonPaymentDeclined:
		return "your card was declined"
	case event.ReasonOutOfStock:
		return "we do not have everything that you ordered"
	case event.ReasonUndeliverable:
		return "the carrier can not deliver to your address"
	}
	return reason
}
