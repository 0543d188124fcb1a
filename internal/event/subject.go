package event

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Type names a fact: "<domain>.<event>", the event's subject without its key and the
// CloudEvents type of the message. Only the types of stream MAILS have a third token.
type Type string

// Every type of event in stream ORDERS.
const (
	OrderCreated   Type = "orders.created"
	OrderCancelled Type = "orders.cancelled" // the request to cancel; fulfillment decides

	PaymentConfirmed Type = "payments.confirmed"
	PaymentDeclined  Type = "payments.declined"
	PaymentRefunded  Type = "payments.refunded"

	InventoryReserved Type = "inventory.reserved"
	InventoryRejected Type = "inventory.rejected"
	InventoryReleased Type = "inventory.released"

	FulfillmentShipped   Type = "fulfillment.shipped"
	FulfillmentCancelled Type = "fulfillment.cancelled"

	NotifyReceived  Type = "notify.received"
	NotifyShipped   Type = "notify.shipped"
	NotifyCancelled Type = "notify.cancelled"
	NotifyRefunded  Type = "notify.refunded"

	DeadlineAt  Type = "deadlines.at"  // in stream DEADLINES: a message schedule
	DeadlineDue Type = "deadlines.due" // the message that the schedule becomes when it is due

	StockAdded Type = "stock.added" // keyed by SKU
	StockLease Type = "stock.lease" // keyed by LeaseKey
)

// LeaseKey ends the subject of the inventory writer's fencing message.
const LeaseKey = "main"

// OfOrder lists the types of an order's events in stream ORDERS. An order has each at most
// once.
var OfOrder = []Type{
	OrderCreated, OrderCancelled,
	PaymentConfirmed, PaymentDeclined, PaymentRefunded,
	InventoryReserved, InventoryRejected, InventoryReleased,
	FulfillmentShipped, FulfillmentCancelled,
	NotifyReceived, NotifyShipped, NotifyCancelled, NotifyRefunded,
}

// OfMail lists the types that record that a mail was sent, one for each kind of mail.
var OfMail = []Type{NotifyReceived, NotifyShipped, NotifyCancelled, NotifyRefunded}

// MailAt returns the type, in stream MAILS, of the message schedule of a mail that is to
// be tried again. sent is the type that will record that it was sent.
func MailAt(sent Type) Type { return mail("at", sent) }

// MailDue returns the type of the message that the schedule of MailAt becomes when it is
// due.
func MailDue(sent Type) Type { return mail("due", sent) }

// MailFilter returns the filter that matches both for the mail to the customer of an order.
func MailFilter(sent Type, id string) string { return mail("*", sent).Subject(id) }

func mail(state string, sent Type) Type {
	return Type("mails." + state + strings.TrimPrefix(string(sent), sent.Domain()))
}

// OrderSubjects are the filters that match every event of every order, and nothing else.
var OrderSubjects = []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}

// known has every type. The value is true if the subject ends in an order id.
var known = func() map[Type]bool {
	types := map[Type]bool{DeadlineAt: true, DeadlineDue: true, StockAdded: false, StockLease: false}
	for _, t := range OfOrder {
		types[t] = true
	}
	for _, t := range OfMail {
		types[MailAt(t)], types[MailDue(t)] = true, true
	}
	return types
}()

// Subject returns the subject of the event of this type about key, an order id or an SKU.
func (t Type) Subject(key string) string { return string(t) + "." + key }

// Every returns the filter that matches all events of this type.
func (t Type) Every() string { return string(t) + ".*" }

// Domain returns the first token of the type, such as payments.
func (t Type) Domain() string {
	domain, _, _ := strings.Cut(string(t), ".")
	return domain
}

// Publisher returns the name of the service that publishes events of this type.
func (t Type) Publisher() string {
	switch domain := t.Domain(); domain {
	case "stock":
		return "inventory"
	case "deadlines":
		return "orders"
	case "mails":
		return "notify"
	default:
		return domain
	}
}

// ParseSubject splits a subject into type and key. It fails for an unknown type, and for
// an order's event whose key is not an order id.
func ParseSubject(subject string) (Type, string, error) {
	i := strings.LastIndexByte(subject, '.')
	if i < 0 {
		return "", "", fmt.Errorf("subject %.100q is not <domain>.<event>.<key>", subject)
	}
	t, key := Type(subject[:i]), subject[i+1:]
	ofOrder, exists := known[t]
	switch {
	case !exists:
		return "", "", fmt.Errorf("subject %.100q: no event of type %.100q exists", subject, t)
	case ofOrder && !IsOrderID(key):
		return "", "", fmt.Errorf("subject %.100q does not end in an order id (a UUIDv7)", subject)
	case key == "" || strings.ContainsAny(key, ".*> \t\r\n"):
		return "", "", fmt.Errorf("subject %.100q does not end in a key of one token", subject)
	}
	return t, key, nil
}

// NewOrderID returns a new order id: a UUIDv7, which contains its creation time
// (RFC 9562, section 5.7).
func NewOrderID() string { return uuid.Must(uuid.NewV7()).String() }

// IsOrderID reports whether s is an order id in its canonical form. Other spellings of the
// same UUID are refused, because they would be other subjects.
func IsOrderID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.Version() == 7 && id.Variant() == uuid.RFC4122 && len(s) == 36 && strings.ToLower(s) == s
}

// redrive is the first token of events that an operator sends to one durable again.
const redrive = "redrive."

// Redrive returns the subject on which only the durable gets the event of subject again.
func Redrive(durable, subject string) string { return redrive + durable + "." + subject }

// CutRedrive splits a subject of Redrive. For any other subject ok is false.
func CutRedrive(subject string) (durable, original string, ok bool) {
	rest, ok := strings.CutPrefix(subject, redrive)
	if !ok {
		return "", subject, false
	}
	durable, original, ok = strings.Cut(rest, ".")
	return durable, original, ok
}

// Template returns the subject with a placeholder instead of its key, for
// messaging.destination.template: the number of templates is bounded. It returns "" for a
// subject that is not an event's.
func Template(subject string) string {
	// Tracing calls this for every span, so it does not check the order id.
	i := strings.LastIndexByte(subject, '.')
	if i < 0 {
		return ""
	}
	ofOrder, exists := known[Type(subject[:i])]
	switch {
	case !exists:
		return operatorsTemplate(subject)
	case ofOrder:
		return subject[:i] + ".{order_id}"
	default:
		return subject[:i] + ".{key}"
	}
}

// operatorsTemplate is Template for dead letters and for events that are sent again.
func operatorsTemplate(subject string) string {
	if durable, original, ok := CutRedrive(subject); ok {
		if t := Template(original); t != "" {
			return Redrive(durable, t)
		}
	}
	if durable, _, ok := CutDeadLetter(subject); ok {
		return DeadLetter(durable, "{sequence}")
	}
	return ""
}

const deadLetters = "deadletters."

// DeadLetter returns the subject, in stream DEADLETTERS, of a message that the durable
// could not handle.
func DeadLetter(durable, sequence string) string { return deadLetters + durable + "." + sequence }

// CutDeadLetter splits a subject of DeadLetter. For any other subject ok is false.
func CutDeadLetter(subject string) (durable, sequence string, ok bool) {
	rest, ok := strings.CutPrefix(subject, deadLetters)
	if !ok {
		return "", "", false
	}
	durable, sequence, ok = strings.Cut(rest, ".")
	return durable, sequence, ok && durable != "" && sequence != "" && !strings.Contains(sequence, ".")
}
