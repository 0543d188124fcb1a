package orders

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

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

// Order is an order as the API shows it: the sum of its events.
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
	Sampled  bool       `json:"-"` // the span is exported
}

// Concluded reports whether the order is shipped or cancelled.
func (o Order) Concluded() bool { return o.State == StateShipped || o.State == StateCancelled }

// orderOf adds up the events of one order, in stream order. Without its
// orders.created the order has no ID.
func orderOf(events []event.Event) Order {
	o := Order{Items: []event.Item{}, Events: []Event{}}
	for _, e := range events {
		o.apply(e)
	}
	return o
}

// apply adds an order's next event. It ignores a payload that is not about the order,
// which none of the services published.
func (o *Order) apply(e event.Event) {
	switch e.Type {
	case event.OrderCreated:
		if created, err := event.Decode[event.Created](e); err == nil {
			o.ID, o.State, o.Total, o.Items = created.OrderID, StateCreated, created.Total, created.Items
		}
	case event.OrderCancelled:
		if !o.Concluded() {
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
	o.Events = append(o.Events, publishedEvent(e))
}

// publishedEvent returns a stored event as the API shows it.
func publishedEvent(e event.Event) Event {
	shown := Event{Type: e.Type, Sequence: e.Sequence, Time: e.Time.UTC()}
	span := trace.SpanContextFromContext(traceContext.Extract(context.Background(), tracing.HeaderCarrier(e.Header)))
	if span.IsValid() {
		shown.TraceID, shown.SpanID, shown.Sampled = span.TraceID().String(), span.SpanID().String(), span.IsSampled()
	}
	return shown
}

var traceContext propagation.TraceContext

// age returns the time since an order id was made, by the clock of its maker.
func age(id string) time.Duration {
	u, err := uuid.Parse(id)
	if err != nil {
		return 0
	}
	return time.Since(time.Unix(u.Time().UnixTime()))
}
