// Package notify sends mails to customers, once for each of:
//
//	consumes               publishes, when the mail is sent
//	orders.created         notify.received
//	fulfillment.shipped    notify.shipped
//	fulfillment.cancelled  notify.cancelled
//	payments.refunded      notify.refunded
//
// A mail that the server does not take now is tried again for two days:
//
//	mails.due.<kind>       the same; or mails.at.<kind>, a message schedule
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// Name is the name of the service and of its durable consumers.
const Name = "notify"

type notify struct {
	*service.Runtime
	mailer  Mailer
	retries Retries
	// unrecorded holds, by Message-ID, the outcomes of attempts that the stream could not
	// store yet: only of events that are being handled, so few.
	unrecorded sync.Map
}

func (n *notify) durables() []stream.Durable {
	orders := stream.Durable{Name: Name, Stream: stream.OrdersStream}
	later := stream.Durable{Name: Name, Stream: stream.MailsStream}
	for _, k := range kinds {
		orders.On = append(orders.On, stream.OnEach(func(ctx context.Context, e event.Event) error {
			return n.first(ctx, k, e)
		}, k.cause)...)
		later.On = append(later.On, stream.On(event.MailDue(k.sent), func(ctx context.Context, e event.Event, r event.MailRetry) error {
			return n.again(ctx, k, e, r)
		}))
	}
	return []stream.Durable{orders, later}
}

// Service defines notify. It sends by SMTP if SMTP_URL is set, and else records in mails,
// which may be nil.
func Service(mails *outbox.Outbox) service.Definition {
	return service.Definition{
		Name:     Name,
		Durables: new(notify).durables(),
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

// New makes the service with the retries of mail servers.
func New(rt *service.Runtime, mailer Mailer) service.Part {
	return NewWithRetries(rt, mailer, DefaultRetries)
}

// NewWithRetries makes the service with retries of the caller's own.
func NewWithRetries(rt *service.Runtime, mailer Mailer, retries Retries) service.Part {
	n := &notify{Runtime: rt, mailer: mailer, retries: retries}
	return service.Part{Run: func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, d := range n.durables() {
			group.Go(func() error { return rt.Stream.Consume(ctx, d) })
		}
		return group.Wait()
	}}
}

// kind is a kind of mail.
type kind struct {
	cause, sent event.Type                             // the event that calls for it, and the one that records that it was sent
	compose     func(event.Event) (outbox.Mail, error) // the recipient, the subject and the text, from the cause
}

var kinds = []kind{
	{event.OrderCreated, event.NotifyReceived, received},
	{event.FulfillmentShipped, event.NotifyShipped, shipped},
	{event.FulfillmentCancelled, event.NotifyCancelled, cancelled},
	{event.PaymentRefunded, event.NotifyRefunded, refunded},
}

func received(e event.Event) (outbox.Mail, error) {
	order, err := event.Decode[event.Created](e)
	return letter(order.Customer, "We have received your order",
		"thank you for your order over %s. We are looking after it.", amount(order.Total)), err
}

func shipped(e event.Event) (outbox.Mail, error) {
	order, err := event.Decode[event.Conclusion](e)
	return letter(order.Customer, "Your order is on its way", "your parcel %s has left our house.", order.ParcelID), err
}

func cancelled(e event.Event) (outbox.Mail, error) {
	order, err := event.Decode[event.Conclusion](e)
	return letter(order.Customer, "Your order was cancelled",
		"your order was cancelled: %s. If we have charged you, the money is on its way back.", explain(order.Reason)), err
}

func refunded(e event.Event) (outbox.Mail, error) {
	charge, err := event.Decode[event.Charge](e)
	switch {
	case err != nil:
		return outbox.Mail{}, err
	case charge.Customer == nil:
		return outbox.Mail{}, stream.Permanent(errors.New("the refund contains no customer"))
	}
	return letter(*charge.Customer, "Your money is on its way back", "we have given back %s.", amount(charge.Amount)), nil
}

func letter(to event.Customer, subject, format string, args ...any) outbox.Mail {
	return outbox.Mail{To: to, Subject: subject, Text: fmt.Sprintf(format, args...)}
}

// first makes the first attempt to send the mail that e calls for.
func (n *notify) first(ctx context.Context, k kind, e event.Event) error {
	return n.send(ctx, k, e, 0, event.MailRetry{OrderKey: event.OrderKey{OrderID: e.Key}, Since: time.Now()})
}

// send sends the mail that cause calls for, unless the event that it was sent is stored
// already, and then publishes that event. After a crash between the two the mail is sent
// again, with the same Message-ID: mail offers no stronger guarantee. If the mail server
// does not take the mail now, send schedules another attempt.
//
// due is the sequence in MAILS of the message that called for this attempt; 0 for the
// first one. A later message about the mail means that this attempt was made before.
func (n *notify) send(ctx context.Context, k kind, cause event.Event, due uint64, r event.MailRetry) error {
	mail, err := k.compose(cause)
	if err != nil {
		return err
	}
	mail.ID = MessageID(k.sent, cause.Key)
	mail.Text += fmt.Sprintf("\n\nOrder %s\n", cause.Key)
	// In this order: an attempt that is no longer scheduled has published its event.
	scheduled, err := n.Stream.MailScheduled(ctx, k.sent, cause.Key)
	if err != nil {
		return err
	}
	sent, err := n.Stream.Stored(ctx, cause, k.sent)
	if err != nil {
		return err
	}
	if sent || scheduled > due {
		n.unrecorded.Delete(mail.ID)
		return nil
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("notification.channel", n.mailer.Channel()))
	// While NATS is away, this handler is called again and again.
	attempt, tried := n.unrecorded.Load(mail.ID)
	if !tried {
		attempt = outcome{n.Call(ctx, "send mail", func(ctx context.Context) error { return n.mailer.Send(ctx, mail) })}
		n.unrecorded.Store(mail.ID, attempt)
	}
	ctx, cancel := stream.AfterEffect(ctx)
	defer cancel()
	if failed := attempt.(outcome).err; failed != nil {
		err = n.tryLater(ctx, k, r, failed)
	} else {
		err = n.record(ctx, k, cause.Key, mail)
	}
	if !errors.Is(err, stream.ErrUnavailable) {
		n.unrecorded.Delete(mail.ID)
	}
	return err
}

// outcome is the outcome of an attempt to send a mail.
type outcome struct{ err error }

// record publishes that the mail was sent.
func (n *notify) record(ctx context.Context, k kind, order string, mail outbox.Mail) error {
	_, err := n.Stream.PublishOnce(ctx, event.Draft{
		Type:    k.sent,
		Payload: event.MailSent{OrderKey: event.OrderKey{OrderID: order}, MessageID: mail.ID, Channel: n.mailer.Channel()},
	}, stream.Alone(k.sent, order))
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
