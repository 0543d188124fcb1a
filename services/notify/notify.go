// Package notify writes to customers, once for each of:
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

// Name is the service's, and its durable consumer's.
const Name = "notify"

// Consumes lists the events that customers are told of.
var Consumes = []string{
	event.OrderCreated.Every(),
	event.FulfillmentShipped.Every(),
	event.FulfillmentCancelled.Every(),
	event.PaymentRefunded.Every(),
}

type notify struct {
	*service.Runtime
	mailer Mailer
	// untold holds the ids of mails that were sent while the stream could not take
	// the fact: of the events in hand, so few.
	untold sync.Map
}

// Service is notify with an SMTP mailer if SMTP_URL is set, else with mails as its
// outbox; nil for one of its own.
func Service(mails *outbox.Outbox) service.Definition {
	return service.Definition{
		Name:    Name,
		Durable: stream.Durable{Name: Name, Stream: stream.OrdersStream, Filters: Consumes},
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
	return service.Part{Run: func(ctx context.Context) error {
		return rt.Stream.Consume(ctx, Name, n.handle)
	}}
}

// handle sends the mail that e calls for, unless the stream says it was sent,
// and then says so. A crash between the two sends it twice, with the same
// Message-ID: mail offers no more.
func (n *notify) handle(ctx context.Context, e event.Event) error {
	mail, fact, err := compose(e)
	if err != nil {
		return err
	}
	events, err := n.Stream.Latest(ctx, e, fact)
	if err != nil {
		return err
	}
	if _, sent := event.Find(events, fact); sent {
		n.untold.Delete(mail.ID)
		return nil
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("notification.channel", n.mailer.Channel()))
	// NATS may take long to be there again, and this handler is called until it is.
	if _, sent := n.untold.Load(mail.ID); !sent {
		if err := n.Call(ctx, "send mail", func(ctx context.Context) error { return n.mailer.Send(ctx, mail) }); err != nil {
			return err
		}
		n.untold.Store(mail.ID, true)
	}
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	_, err = n.Stream.PublishOnce(ctx, event.Draft{
		Type:    fact,
		Payload: event.MailSent{OrderKey: event.OrderKey{OrderID: e.Key}, MessageID: mail.ID, Channel: n.mailer.Channel()},
	}, stream.Alone(fact, e.Key))
	if !errors.Is(err, stream.ErrUnavailable) {
		n.untold.Delete(mail.ID)
	}
	if errors.Is(err, stream.ErrConflict) {
		// A foreign message is in the fact's place. Trying again would send the mail
		// again, each time.
		return stream.Permanent(err)
	}
	return err
}

// compose writes the mail about an event, and names the fact that it was sent.
func compose(e event.Event) (outbox.Mail, event.Type, error) {
	switch e.Type {
	case event.OrderCreated:
		order, err := event.Decode[event.Created](e)
		return letter(event.NotifyReceived, e.Key, order.Customer, "We have received your order",
			fmt.Sprintf("thank you for your order over %s. We are looking after it.", amount(order.Total))), event.NotifyReceived, err
	case event.FulfillmentShipped:
		c, err := event.Decode[event.Conclusion](e)
		return letter(event.NotifyShipped, e.Key, c.Customer, "Your order is on its way",
			fmt.Sprintf("your parcel %s has left our house.", c.ParcelID)), event.NotifyShipped, err
	case event.FulfillmentCancelled:
		c, err := event.Decode[event.Conclusion](e)
		return letter(event.NotifyCancelled, e.Key, c.Customer, "Your order was cancelled",
			fmt.Sprintf("your order was cancelled: %s. If we have charged you, the money is on its way back.", explain(c.Reason))), event.NotifyCancelled, err
	case event.PaymentRefunded:
		c, err := event.Decode[event.Charge](e)
		if err == nil && c.Customer == nil {
			err = stream.Permanent(errors.New("the refund names no customer"))
		}
		if err != nil {
			return outbox.Mail{}, "", err
		}
		return letter(event.NotifyRefunded, e.Key, *c.Customer, "Your money is on its way back",
			fmt.Sprintf("we have given back %s.", amount(c.Amount))), event.NotifyRefunded, nil
	}
	return outbox.Mail{}, "", stream.Permanent(fmt.Errorf("no mail is written about %s", e.Type))
}

// MessageID names the mail about a fact of an order: the same each time.
func MessageID(fact event.Type, order string) string {
	return string(fact) + "." + order + "@ordertrail.example"
}

func letter(fact event.Type, order string, to event.Customer, subject, text string) outbox.Mail {
	return outbox.Mail{
		ID:      MessageID(fact, order),
		To:      to,
		Subject: subject,
		Text:    fmt.Sprintf("%s\n\nOrder %s\n", text, order),
	}
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
