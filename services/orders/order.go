package orders

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"context"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing"
)

// States of an order.
const (
	StateCreated    = "created"
	StateCancelling = "cancelling" // asked for, not decided
	StateShipped    = "shipped"
	StateCancelled  = "cancelled"
)

// Order is an order as the API shows it: what its events add up to.
type Order struct {
	ID       string       `json:"id"`
	State    string       `json:"state"`
	Reason   string       `json:"reason,omitempty"` // why it was cancelled
	Refunded bool         `json:"refunded"`         // money was taken and given back
	Total    event.Money  `json:"total"`
	Items    []event.Item `json:"items"`
	Events   []Event      `json:"events"` // in stream order
}

// Event is one of an order's events, with the span that published it.
type Event struct {
	Type     event.Type `json:"type"`
	Sequence uint64     `json:"sequence"`
	Time     time.Time  `json:"time"`
	TraceID  string     `json:"trace_id,omitempty"`
	SpanID   string     `json:"span_id,omitempty"`

	sampled bool // that span
}

func (o Order) concluded() bool { return o.State == StateShipped || o.State == StateCancelled }

// over tells that no more events will come. After its conclusion an order's payment
// and stock are closed, and the customer is told.
func (o Order) over() bool {
	has := func(types ...event.Type) bool {
		return slices.ContainsFunc(o.Events, func(e Event) bool { return slices.Contains(types, e.Type) })
	}
	switch o.State {
	case StateShipped:
		return has(event.NotifyReceived) && has(event.NotifyShipped)
	case StateCancelled:
		return has(event.NotifyReceived) && has(event.NotifyCancelled) &&
			has(event.PaymentDeclined, event.PaymentRefunded) && has(event.InventoryRejected, event.InventoryReleased) &&
			(!o.Refunded || has(event.NotifyRefunded))
	}
	return false
}

// fold adds up the events of one order, in stream order. Without its
// orders.created the order has no ID.
func fold(events []event.Event) Order {
	o := Order{Items: []event.Item{}, Events: []Event{}}
	for _, e := range events {
		o.apply(e)
	}
	return o
}

// apply adds an order's next event, unless its payload is not about the order: then
// none of the services published it.
func (o *Order) apply(e event.Event) {
	switch e.Type {
	case event.OrderCreated:
		if created, err := event.Decode[event.Created](e); err == nil {
			o.ID, o.State, o.Total, o.Items = created.OrderID, StateCreated, created.Total, created.Items
		}
	case event.OrderCancelled:
		if !o.concluded() {
			o.State = StateCancelling
		}
	case event.FulfillmentShipped:
		o.State = StateShipped
	case event.FulfillmentCancelled:
		o.State = StateCancelled
		if conclusion, err := event.Decode[event.Conclusion](e); err == nil {
			o.Reason = conclusion.Reason
		}
	case event.PaymentRefunded:
		o.Refunded = true
	}
	span := trace.SpanContextFromContext(traceContext.Extract(context.Background(), tracing.HeaderCarrier(e.Header)))
	shown := Event{Type: e.Type, Sequence: e.Sequence, Time: e.Time.UTC()}
	if span.IsValid() {
		shown.TraceID, shown.SpanID = span.TraceID().String(), span.SpanID().String()
		shown.sampled = span.IsSampled()
	}
	o.Events = append(o.Events, shown)
}

var traceContext propagation.TraceContext

// age is how long ago an order id was made, by its maker's clock.
func age(id string) time.Duration {
	u, err := uuid.Parse(id)
	if err != nil {
		return 0
	}
	return time.Since(time.Unix(u.Time().UnixTime()))
}
