package event

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Type names a fact: "<domain>.<event>", the first two tokens of the event's
// subject and the CloudEvents type of the message.
type Type string

// Every type of event in stream ORDERS.
const (
	OrderCreated   Type = "orders.created"
	OrderCancelled Type = "orders.cancelled" // asked for, not yet decided

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

	DeadlineAt  Type = "deadlines.at"  // in stream DEADLINES: a message schedule, which becomes
	DeadlineDue Type = "deadlines.due" // this when its time has come

	StockAdded Type = "stock.added" // keyed by SKU
	StockLease Type = "stock.lease" // keyed by LeaseKey
)

// LeaseKey ends the subject of the inventory writer's fencing message.
const LeaseKey = "main"

// OfOrder lists the types of event that an order can have in stream ORDERS: each
// once at most.
var OfOrder = []Type{
	OrderCreated, OrderCancelled,
	PaymentConfirmed, PaymentDeclined, PaymentRefunded,
	InventoryReserved, InventoryRejected, InventoryReleased,
	FulfillmentShipped, FulfillmentCancelled,
	NotifyReceived, NotifyShipped, NotifyCancelled, NotifyRefunded,
}

// known holds every type; true for those whose subject ends in an order id.
var known = func() map[Type]bool {
	types := map[Type]bool{DeadlineAt: true, DeadlineDue: true, StockAdded: false, StockLease: false}
	for _, t := range OfOrder {
		types[t] = true
	}
	return types
}()

// Subject is where the event of this type about key (an order id, an SKU) is
// published.
func (t Type) Subject(key string) string { return string(t) + "." + key }

// Every matches this type's events about anything: a consumer's filter.
func (t Type) Every() string { return string(t) + ".*" }

// Domain is the first token: the service that may publish events of this type.
func (t Type) Domain() string {
	domain, _, _ := strings.Cut(string(t), ".")
	return domain
}

// Publisher is the service that publishes events of this type.
func (t Type) Publisher() string {
	switch domain := t.Domain(); domain {
	case "stock":
		return "inventory"
	case "deadlines":
		return "orders"
	default:
		return domain
	}
}

// ParseSubject splits a subject into type and key. It fails on a type that does
// not exist and on an order event whose key is no order id.
func ParseSubject(subject string) (Type, string, error) {
	domain, rest, _ := strings.Cut(subject, ".")
	name, key, ok := strings.Cut(rest, ".")
	if !ok {
		return "", "", fmt.Errorf("subject %.100q is not <domain>.<event>.<key>", subject)
	}
	t := Type(domain + "." + name)
	ofOrder, exists := known[t]
	switch {
	case !exists:
		return "", "", fmt.Errorf("subject %.100q: no event of type %q exists", subject, t)
	case ofOrder && !IsOrderID(key):
		return "", "", fmt.Errorf("subject %.100q does not end in an order id (a UUIDv7)", subject)
	case key == "" || strings.ContainsAny(key, ".*> \t\r\n"):
		return "", "", fmt.Errorf("subject %.100q does not end in a key of one token", subject)
	}
	return t, key, nil
}

// NewOrderID makes an order id: a UUIDv7, so that it holds its own creation
// time (RFC 9562, section 5.7).
func NewOrderID() string { return uuid.Must(uuid.NewV7()).String() }

// IsOrderID reports whether s is an order id in its one canonical form. Other
// spellings of the same UUID are refused: they would be other subjects.
func IsOrderID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.Version() == 7 && id.Variant() == uuid.RFC4122 && id.String() == s
}

// redrive is the first token of events that are sent to one durable again.
const redrive = "redrive."

// Redrive is the subject on which one durable alone gets the event of a subject
// again.
func Redrive(durable, subject string) string { return redrive + durable + "." + subject }

// CutRedrive takes such a subject apart; ok is false for any other.
func CutRedrive(subject string) (durable, original string, ok bool) {
	rest, ok := strings.CutPrefix(subject, redrive)
	if !ok {
		return "", subject, false
	}
	durable, original, ok = strings.Cut(rest, ".")
	return durable, original, ok
}

// Template is the subject with its key replaced by a placeholder: of bounded
// number, as messaging.destination.template must be. It is "" for a subject that
// is no event's.
func Template(subject string) string {
	// The hot path of tracing: no order id is checked here.
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

// operatorsTemplate is Template for what is not an event: a dead letter, and an
// event that is sent again.
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

// DeadLetter is the subject, in stream DEADLETTERS, of a message that a durable
// could not handle.
func DeadLetter(durable, sequence string) string { return deadLetters + durable + "." + sequence }

// CutDeadLetter takes such a subject apart; ok is false for any other.
func CutDeadLetter(subject string) (durable, sequence string, ok bool) {
	rest, ok := strings.CutPrefix(subject, deadLetters)
	if !ok {
		return "", "", false
	}
	durable, sequence, ok = strings.Cut(rest, ".")
	return durable, sequence, ok && durable != "" && sequence != "" && !strings.Contains(sequence, ".")
}
