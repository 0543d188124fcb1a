package event

import (
	"errors"
	"fmt"
	"time"
)

// Payload is the body of an event. Key names what it is about (an order, an
// SKU): the same that ends its subject, or the event is refused.
type Payload interface{ Key() string }

// Money is an amount in the currency's minor unit (cents), never a float.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"` // ISO 4217
}

// Customer is whom to write to. Personal data: it travels in payloads, never in
// spans, metrics or logs.
type Customer struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Item is one line of an order, at the catalogue's price when it was placed.
type Item struct {
	SKU       string `json:"sku"`
	Quantity  int    `json:"quantity"`
	UnitPrice Money  `json:"unit_price"`
}

// Payment is how the customer pays: the card gateway's token.
type Payment struct {
	Token string `json:"token"`
}

// Shipping is where the parcel goes.
type Shipping struct {
	Address string `json:"address"`
}

// OrderKey is what every order event has.
type OrderKey struct {
	OrderID string `json:"order_id"`
}

// Key returns the order's id.
func (k OrderKey) Key() string { return k.OrderID }

// Why an order was not paid, not reserved, or cancelled.
const (
	ReasonCustomer        = "customer"         // the customer asked
	ReasonDeadline        = "deadline"         // it was not concluded in time
	ReasonPaymentDeclined = "payment_declined" // the card gateway said no
	ReasonOutOfStock      = "out_of_stock"     // not every item was there
	ReasonUndeliverable   = "undeliverable"    // the carrier refused the parcel
	ReasonOrderCancelled  = "order_cancelled"  // an outcome closed by fulfillment.cancelled
)

// Created is orders.created: everything about the order that later steps need.
type Created struct {
	OrderKey
	Customer    Customer  `json:"customer"`
	Items       []Item    `json:"items"`
	Payment     Payment   `json:"payment"`
	Shipping    Shipping  `json:"shipping"`
	Total       Money     `json:"total"`
	CreatedAt   time.Time `json:"created_at"`
	RequestHash string    `json:"request_hash"` // hex SHA-256 of the request's body: tells a retry from another request under the same Idempotency-Key
}

// CancelRequested is orders.cancelled.
type CancelRequested struct {
	OrderKey
	Reason string `json:"reason"` // ReasonCustomer or ReasonDeadline
}

// Deadline is deadlines.due: by when an order should have been concluded.
type Deadline struct {
	OrderKey
	Due time.Time `json:"due"`
	Try int       `json:"try"` // from 1: a deadline that finds no order yet is set again
}

// Charge is payments.confirmed and payments.refunded: what was taken, or given
// back. Customer is filled in on a refund, for the mail about it.
type Charge struct {
	OrderKey
	ChargeID string    `json:"charge_id"`
	Amount   Money     `json:"amount"`
	Customer *Customer `json:"customer,omitempty"`
}

// Refused is payments.declined and inventory.rejected.
type Refused struct {
	OrderKey
	Reason string `json:"reason"`
}

// Reservation is inventory.reserved and inventory.released.
type Reservation struct {
	OrderKey
	Items []Item `json:"items"`
}

// Conclusion is fulfillment.shipped and fulfillment.cancelled: the one end of an
// order, with what the services that act on it need.
type Conclusion struct {
	OrderKey
	Reason   string   `json:"reason,omitempty"`    // why it was cancelled
	ParcelID string   `json:"parcel_id,omitempty"` // the carrier's, when it was shipped
	Customer Customer `json:"customer"`
	Items    []Item   `json:"items"`
	Total    Money    `json:"total"`
}

// MailSent is notify.*: which mail went out. It holds no address.
type MailSent struct {
	OrderKey
	MessageID string `json:"message_id"` // RFC 5322 Message-ID
	Channel   string `json:"channel"`    // "smtp" or "outbox"
}

// Stock is stock.added: units that came in.
type Stock struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Key returns the SKU.
func (s Stock) Key() string { return s.SKU }

// Lease is stock.lease.main: its sequence is the fencing token of the writer.
type Lease struct {
	Name   string `json:"name"`
	Holder string `json:"holder"`
}

// Key returns the lease's name.
func (l Lease) Key() string { return l.Name }

func (c Created) valid() error     { return validItems(c.Items) }
func (r Reservation) valid() error { return validItems(r.Items) }
func (c Conclusion) valid() error  { return validItems(c.Items) }

func (s Stock) valid() error {
	if s.Quantity < 0 {
		return fmt.Errorf("quantity %d of %.100q", s.Quantity, s.SKU)
	}
	return nil
}

// maxQuantity is far above what any order holds, and so far below the largest int
// that a sum of quantities cannot overflow.
const maxQuantity = 1_000_000_000

// validItems refuses what would make stock out of nothing.
func validItems(items []Item) error {
	if len(items) == 0 {
		return errors.New("no items")
	}
	for _, i := range items {
		if i.Quantity < 1 || i.Quantity > maxQuantity {
			return fmt.Errorf("quantity %d of %.100q", i.Quantity, i.SKU)
		}
	}
	return nil
}
