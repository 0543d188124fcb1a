package event

import (
	"errors"
	"fmt"
	"time"
)

// Payload is the body of an event. Key returns the order id or SKU that the event is
// about. An event whose subject ends in another key is refused.
type Payload interface{ Key() string }

// Money is an amount in the currency's minor unit (cents), never a float.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"` // ISO 4217
}

// Customer is the person who gets the mails. This is personal data: it is in payloads,
// never in spans, metrics or logs.
type Customer struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Item is one line of an order, with the catalogue's price at the time of the order.
type Item struct {
	SKU       string `json:"sku"`
	Quantity  int    `json:"quantity"`
	UnitPrice Money  `json:"unit_price"`
}

// Payment has the card gateway's token.
type Payment struct {
	Token string `json:"token"`
}

// Shipping has the address of the parcel.
type Shipping struct {
	Address string `json:"address"`
}

// OrderKey is part of the payload of every order's event.
type OrderKey struct {
	OrderID string `json:"order_id"`
}

// Key returns the order's id.
func (k OrderKey) Key() string { return k.OrderID }

// Reasons for an order that was not paid, not reserved, or cancelled.
const (
	ReasonCustomer        = "customer"         // the customer asked to cancel
	ReasonDeadline        = "deadline"         // it was not concluded in time
	ReasonPaymentDeclined = "payment_declined" // the card gateway declined
	ReasonOutOfStock      = "out_of_stock"     // an item was not in stock
	ReasonUndeliverable   = "undeliverable"    // the carrier refused the parcel
	ReasonOrderCancelled  = "order_cancelled"  // the order was cancelled before it had this outcome
)

// Created is the payload of orders.created. It has everything that later steps need.
type Created struct {
	OrderKey
	Customer    Customer  `json:"customer"`
	Items       []Item    `json:"items"`
	Payment     Payment   `json:"payment"`
	Shipping    Shipping  `json:"shipping"`
	Total       Money     `json:"total"`
	CreatedAt   time.Time `json:"created_at"`
	RequestHash string    `json:"request_hash"` // hex SHA-256 of the request's body; distinguishes a retry from another request with the same Idempotency-Key
}

// Deadline is the payload of deadlines.due: the time by which the order must be concluded.
type Deadline struct {
	OrderKey
	Due time.Time `json:"due"`
	Try int       `json:"try"` // from 1; a deadline that finds no order yet is set again
}

// Charge is the payload of payments.confirmed and payments.refunded. Only a refund has
// Customer, for the mail.
type Charge struct {
	OrderKey
	ChargeID string    `json:"charge_id"`
	Amount   Money     `json:"amount"`
	Customer *Customer `json:"customer,omitempty"`
}

// Refused is the payload of the events that stop an order: payments.declined,
// inventory.rejected and orders.cancelled.
type Refused struct {
	OrderKey
	Reason string `json:"reason"`
}

// Reservation is the payload of inventory.reserved and inventory.released.
type Reservation struct {
	OrderKey
	Items []Item `json:"items"`
}

// Conclusion is the payload of fulfillment.shipped and fulfillment.cancelled, the end of
// an order, with everything that the services that act on it need.
type Conclusion struct {
	OrderKey
	Reason   string   `json:"reason,omitempty"`    // of a cancelled order
	ParcelID string   `json:"parcel_id,omitempty"` // the carrier's, of a shipped order
	Customer Customer `json:"customer"`
	Items    []Item   `json:"items"`
	Total    Money    `json:"total"`
}

// MailSent is the payload of notify.*. It has no address.
type MailSent struct {
	OrderKey
	MessageID string `json:"message_id"` // RFC 5322 Message-ID
	Channel   string `json:"channel"`    // "smtp" or "outbox"
}

// MailRetry is the payload of mails.due: a mail that could not be sent is to be tried
// again. It has no address; the mail is made from the order's event again.
type MailRetry struct {
	OrderKey
	Since time.Time `json:"since"` // the first attempt
	Tries int       `json:"tries"` // attempts so far
}

// Stock is the payload of stock.added: units that were added to the stock.
type Stock struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Key returns the SKU.
func (s Stock) Key() string { return s.SKU }

// Lease is the payload of stock.lease.main, whose sequence is the fencing token of the writer.
type Lease struct {
	Name   string `json:"name"`
	Holder string `json:"holder"`
}

// Key returns the lease's name.
func (l Lease) Key() string { return l.Name }

func (c Created) valid() error     { return ValidItems(c.Items) }
func (r Reservation) valid() error { return ValidItems(r.Items) }
func (c Conclusion) valid() error  { return ValidItems(c.Items) }

func (r MailRetry) valid() error {
	if r.Tries < 0 || time.Until(r.Since) > time.Hour { // clocks may differ
		return fmt.Errorf("%d attempts since %v", r.Tries, r.Since)
	}
	return nil
}

func (s Stock) valid() error {
	if s.Quantity < 0 || s.Quantity > MaxQuantity {
		return fmt.Errorf("quantity %d of %.100q", s.Quantity, s.SKU)
	}
	return nil
}

// MaxQuantity is the most units in one event. It is more than any order has and than any stock needs, and so little that a
// sum of quantities cannot overflow an int: that takes nine billion events.
const MaxQuantity = 1_000_000_000

// ValidItems returns an error if an order of these items is empty, or would increase the
// stock.
func ValidItems(items []Item) error {
	if len(items) == 0 {
		return errors.New("no items")
	}
	for _, i := range items {
		if i.Quantity < 1 || i.Quantity > MaxQuantity {
			return fmt.Errorf("quantity %d of %.100q", i.Quantity, i.SKU)
		}
	}
	return nil
}
