// Package trail puts an order back together. Correlated by links alone, an order is
// a dozen traces that know nothing of each other; its trail is all of them in one
// graph: who caused what, how often it was tried, where the time went, and what is
// not known.
//
// Spans come from a [Source]: [Store], which keeps the newest orders in memory, or
// [Jaeger]. [Stitch] makes a [Trail] of them; the same spans give the same trail,
// wherever they come from. [Write] prints it, and as JSON it is what the shop
// answers.
package trail

import (
	"time"

	"example.org/ordertrail/internal/event"
)

// Trail is one order's story across all its traces. Everything in it is sorted:
// the same spans give the same Trail.
type Trail struct {
	OrderID string `json:"order_id"`

	// What the stream says about the order; empty if it could not be asked.
	State    string       `json:"state,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Refunded bool         `json:"refunded"`
	Events   []OrderEvent `json:"events"` // in stream order

	Start    time.Time     `json:"start"`       // of the first span; zero without spans
	End      time.Time     `json:"end"`         // of the last
	Duration time.Duration `json:"duration_ns"` // between them

	// Lanes are the traces, by the start of their first span.
	Lanes []Lane `json:"traces"`
	// Edges say what caused what, by the start of what was caused.
	Edges []Edge `json:"edges"`
	// CriticalPath is where the time went, from the order to its conclusion.
	CriticalPath CriticalPath `json:"critical_path"`
	// Services is who talks to whom, computed from the links.
	Services ServiceMap `json:"service_map"`

	// Complete is false if Gaps is not empty.
	Complete bool `json:"complete"`
	// Pending is true if any of the Gaps is: asking again later will show more.
	Pending bool `json:"pending"`
	// Gaps says what is missing, and why.
	Gaps []Gap `json:"gaps"`
}

// OrderEvent is one of the order's events as the stream has it, with the span that
// published it.
type OrderEvent struct {
	Type     event.Type `json:"type"`
	Sequence uint64     `json:"sequence"`
	Time     time.Time  `json:"time"` // when the stream stored it
	TraceID  string     `json:"trace_id,omitempty"`
	SpanID   string     `json:"span_id,omitempty"`
	Sampled  bool       `json:"sampled"` // its publisher said that the trace is kept
}

// Ref names a span: trace id (32 hex digits) and span id (16).
type Ref struct {
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id"`
}

// Lane is one trace, or what of it belongs to the order.
type Lane struct {
	TraceID string `json:"trace_id"`
	// Service is that of the first span, and the lane's title with Name. A trace has
	// other services too only if consumers are made children (TRACE_TOPOLOGY=parent).
	Service  string        `json:"service"`
	Name     string        `json:"name"`      // the first span's
	Services []string      `json:"services"`  // all, sorted
	Start    time.Time     `json:"start"`     // of the first span
	Offset   time.Duration `json:"offset_ns"` // from the trail's start
	Duration time.Duration `json:"duration_ns"`
	Failed   bool          `json:"failed"` // a span in it has status error
	// Delivery is the number of the delivery that the trace is about: 1 at first,
	// more when the message is delivered once more; 0 if it is about none.
	Delivery int `json:"delivery,omitempty"`
	// Compensation tells that something is undone here: money given back, stock
	// released, a parcel cancelled.
	Compensation bool `json:"compensation"`
	// Spans are in tree order: a span is followed by its children, by start.
	Spans []Node `json:"spans"`
}

// Node is a span in its lane.
type Node struct {
	Span
	Offset   time.Duration `json:"offset_ns"` // from the trail's start
	Duration time.Duration `json:"duration_ns"`
	// Depth is 0 for a span without a parent in its lane.
	Depth int `json:"depth"`
	// ErrorType is error.type: set if and only if the span failed.
	ErrorType string `json:"error_type,omitempty"`
	// Delivery is the number of the delivery that a process span, or a settlement, is
	// about; 2 and more are retries.
	Delivery int `json:"delivery,omitempty"`
	// Settlement is how a process span's message was settled (ack, nak, term), if
	// that is known.
	Settlement string `json:"settlement,omitempty"`
	// Batch is set on a span that handles messages of several orders. Only this
	// order's links are among the edges.
	Batch *Batch `json:"batch,omitempty"`
	// Compensation tells that this span undoes something.
	Compensation bool `json:"compensation"`
	// Critical tells that the span is on the critical path.
	Critical bool `json:"critical"`
}

// Batch tells how much of a span is about other orders.
type Batch struct {
	Links   int `json:"links"`          // all
	OfOrder int `json:"links_of_order"` // this order's
}

// Kinds of edges.
const (
	EdgeParent = "parent" // a span and its child
	EdgeLink   = "link"   // a span, and another that links it
	EdgeRetry  = "retry"  // a failed delivery and the next one: no span says so, it follows from the counts
)

// Edge says that From led to To, in time's direction: a link points from To to From.
type Edge struct {
	Kind string `json:"kind"`
	From Ref    `json:"from"` // the parent; the linked span; the delivery before
	To   Ref    `json:"to"`   // the child; the span that has the link; the next delivery

	// Of a link only: why it is there (link.relationship: triggered_by,
	// payment_confirmation, …), the event that it is about, and all its attributes.
	Relationship string     `json:"relationship,omitempty"`
	EventType    string     `json:"event_type,omitempty"`
	Attributes   Attributes `json:"attributes,omitempty"`

	// Wait is how long it took from From's end to To's start: the time in the queue.
	// It is 0 if To began before From ended, as a consumer may before its producer
	// has its answer, and if From is missing.
	Wait time.Duration `json:"wait_ns"`
	// Missing tells that From is not among the trail's spans; Gaps says why.
	Missing bool `json:"missing"`
	// External tells that From is a stranger's: of who called the shop with a trace
	// of their own.
	External bool `json:"external"`
}

// CriticalPath is the chain of spans and waits without a gap, from the order's first
// span to the publishing of its conclusion (fulfillment.shipped or .cancelled), or
// of what came last if there is none yet: shorten one of them, and the order is
// faster.
type CriticalPath struct {
	To       string        `json:"to"` // the name of the span that it leads to
	Duration time.Duration `json:"duration_ns"`
	// Segments follow each other in time; their durations add up to Duration.
	Segments []Segment `json:"segments"`
}

// Segment is a part of the critical path: work that a span does itself, or a wait
// that ends with it.
type Segment struct {
	Ref
	Name     string        `json:"name"` // the span's
	Service  string        `json:"service"`
	Wait     bool          `json:"wait"` // in a queue, for a schedule, for a retry
	Offset   time.Duration `json:"offset_ns"`
	Duration time.Duration `json:"duration_ns"`
}

// Kinds of gaps.
const (
	GapOrderUnknown = "order_unknown"  // the stream has no such order
	GapStream       = "stream"         // the stream could not be asked
	GapOpen         = "order_open"     // more events will come
	GapNoSpans      = "no_spans"       // no span of the order is known
	GapPublisher    = "publisher"      // an event is stored, the span that published it is not known
	GapConsumer     = "consumer"       // an event is stored, nobody has a span that handles it
	GapDeadline     = "deadline"       // the order's deadline is still to come due
	GapParent       = "parent"         // a span's parent is not known
	GapLinkTarget   = "link_target"    // a linked span is not known
	GapLinksDropped = "links_dropped"  // a span had more links than its SDK's limit
	GapTruncated    = "spans_left_out" // the order has more spans than are shown
)

// Gap is something that the trail lacks.
type Gap struct {
	Kind string `json:"kind"`
	// Pending tells that it is to be expected still, and not lost.
	Pending bool `json:"pending"`
	// Detail is a sentence for people: what is missing, and why that may be.
	Detail string `json:"detail"`
	// Ref is the missing span where it is known, else the span that lacks something.
	Ref
	EventType string `json:"event_type,omitempty"`
}

// ServiceMap is who sends what to whom, as the links tell. What an architecture view
// that is made of parents and children can't show: services that only consume.
type ServiceMap struct {
	Services []Service    `json:"services"` // sorted
	Flows    []EventsFlow `json:"flows"`    // sorted
}

// Service is a node of a ServiceMap.
type Service struct {
	Name   string `json:"name"`
	Spans  int    `json:"spans"`
	Failed int    `json:"failed_spans"`
}

// EventsFlow is an edge of a ServiceMap: events of one type from the service that
// publishes them to one that has links to them.
type EventsFlow struct {
	From         string `json:"from"`
	To           string `json:"to"`
	EventType    string `json:"event_type"`
	Relationship string `json:"relationship"`
	Links        int    `json:"links"`
}

// Find returns the span of the given ids, nil if the trail has none.
func (t *Trail) Find(r Ref) *Node {
	for i := range t.Lanes {
		if t.Lanes[i].TraceID != r.TraceID {
			continue
		}
		for j := range t.Lanes[i].Spans {
			if t.Lanes[i].Spans[j].SpanID == r.SpanID {
				return &t.Lanes[i].Spans[j]
			}
		}
	}
	return nil
}

// Links returns the link edges that end at a span: what it was caused by.
func (t *Trail) Links(to Ref) (edges []Edge) {
	for _, e := range t.Edges {
		if e.To == to && e.Kind == EdgeLink {
			edges = append(edges, e)
		}
	}
	return edges
}
