// Package ordertrail adds the facts of the stream to a story of spans: the order's state
// and events, the events without spans, and those still to come.
package ordertrail

import (
	"context"
	"io"
	"slices"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/trail"
)

// Order has the facts that the stream has of an order.
type Order struct {
	ID       string
	State    string // "" if the stream has no such order, or could not be read
	Reason   string
	Refunded bool
	Open     bool      // more events will follow
	Events   []Event   // in stream order
	Err      error     // why the stream could not be read
	Deadline time.Time // when the order's deadline comes due; zero if unknown
	Now      time.Time // when the stream was read
}

// Event is one of the order's events, with the span that published it.
type Event struct {
	Type     event.Type `json:"type"`
	Sequence uint64     `json:"sequence"`
	Time     time.Time  `json:"time"` // when the stream stored it
	TraceID  string     `json:"trace_id,omitempty"`
	SpanID   string     `json:"span_id,omitempty"`
	Sampled  bool       `json:"sampled"` // the publisher's trace is sampled
}

// Trail is an order's story, with its state and events.
type Trail struct {
	OrderID string `json:"order_id"`

	// From the stream; empty if it could not be read.
	State    string  `json:"state,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Refunded bool    `json:"refunded"`
	Events   []Event `json:"events"` // in stream order

	trail.Story
}

// Collect returns the spans of an order: those that have its id, those that published its
// events, and all that parents and links connect with them.
func Collect(ctx context.Context, source trail.Source, order Order) (trail.Spans, error) {
	return trail.Collect(ctx, source, order.options(), order.start()...)
}

func (o Order) options() trail.Options {
	return trail.Options{
		Key: string(event.OrderIDKey), Value: o.ID, Publisher: Publisher,
		Until: func(s *trail.Span) bool {
			t := published(s)
			return t == event.FulfillmentShipped || t == event.FulfillmentCancelled
		},
	}
}

// start returns the spans that published the order's events.
func (o Order) start() (refs []trail.Ref) {
	for _, e := range o.Events {
		if e.TraceID != "" && e.Sampled {
			refs = append(refs, trail.Ref{TraceID: e.TraceID, SpanID: e.SpanID})
		}
	}
	return refs
}

// Stitch makes an order's trail of spans, and compares it with the stream's events.
func Stitch(order Order, found trail.Spans) *Trail {
	story := trail.Stitch(found, order.options(), order.start()...)
	t := &Trail{
		OrderID: order.ID, State: order.State, Reason: order.Reason, Refunded: order.Refunded,
		Events: slices.Concat([]Event{}, order.Events), Story: *story,
	}
	t.markCompensations()
	t.addGaps(order)
	return t
}

// Publisher returns the service that publishes an event type.
func Publisher(eventType string) string { return event.Type(eventType).Publisher() }

// published returns the type of the event that a span publishes, or "". It reads
// attributes, because the name of a span is for people.
func published(s *trail.Span) event.Type {
	if s.Attributes.Text("messaging.operation.type") != "send" {
		return ""
	}
	t, _, _ := event.ParseSubject(s.Attributes.Text("messaging.destination.name"))
	return t
}

// markCompensations marks the spans that undo something.
func (t *Trail) markCompensations() {
	for i := range t.Lanes {
		l := &t.Lanes[i]
		for j := range l.Spans {
			n := &l.Spans[j]
			switch published(&n.Span) {
			case event.PaymentRefunded, event.InventoryReleased:
				n.Compensation = true
			default:
				n.Compensation = n.Attributes[string(event.CompensationKey)] == true
			}
			l.Compensation = l.Compensation || n.Compensation
		}
	}
}

// Write prints a trail for people.
func Write(out io.Writer, t *Trail, o trail.WriteOptions) error {
	title := "order " + t.OrderID + "  " + t.State
	if t.State == "" {
		title += "state unknown"
	}
	if t.Reason != "" {
		title += " (" + t.Reason + ")"
	}
	if t.Refunded {
		title += ", refunded"
	}
	return trail.Write(out, title, &t.Story, o)
}
