// Package trail shows one story across linked traces. In an event-driven system whose
// consumers link their producers, one piece of work leaves a dozen traces that do not
// refer to each other as parents. A [Story] is all of them in one graph: what caused
// what, how often it was tried, where the time went, and what is missing.
//
// Spans come from a [Source]: [Store], which keeps the newest in memory, or [Jaeger].
// [Stitch] makes a Story of them; the same spans give the same Story, from any source.
// [Write] prints it, and it is encoded as JSON.
package trail

import "time"

// Story is everything that belongs together, across all traces. Its parts are sorted:
// the same spans give the same Story.
type Story struct {
	Start    time.Time     `json:"start"`       // of the first span; zero without spans
	End      time.Time     `json:"end"`         // of the span that ended last
	Duration time.Duration `json:"duration_ns"` // from Start to End

	// Lanes are the traces, by the start of their first span.
	Lanes []Lane `json:"traces"`
	// Edges join causes to effects, by the start of the effect.
	Edges []Edge `json:"edges"`
	// CriticalPath is where the time went, from the first span to the conclusion.
	CriticalPath CriticalPath `json:"critical_path"`
	// Services is the service map of this story's links.
	Services ServiceMap `json:"service_map"`
	// Stories are those that meet in the start, if that is a batch of several. The rest of
	// the story is the batch alone.
	Stories []Meeting `json:"stories,omitempty"`

	Lost     int   `json:"lost,omitempty"` // causes that are lost; see Parents
	Complete bool  `json:"complete"`       // Gaps is empty
	Pending  bool  `json:"pending"`        // one of the Gaps is pending: a later search finds more
	Gaps     []Gap `json:"gaps"`           // what is missing, and why
}

// Lane is one trace, or the part of it that belongs to the story.
type Lane struct {
	TraceID  string        `json:"trace_id"`
	Service  string        `json:"service"`  // of the first root span
	Name     string        `json:"name"`     // of the first root span
	Services []string      `json:"services"` // all, sorted; several only if consumers are children
	Start    time.Time     `json:"start"`    // of the first span
	Offset   time.Duration `json:"offset_ns"`
	Duration time.Duration `json:"duration_ns"`
	Failed   bool          `json:"failed"` // a span has status error
	// Delivery is the delivery number of the message that the trace processes: 2 and
	// more for redeliveries, 0 if the trace processes none.
	Delivery int `json:"delivery,omitempty"`
	// Compensation is set by applications that know which spans undo something.
	Compensation bool `json:"compensation"`
	// Spans are in tree order: a span is followed by its children, by start.
	Spans []Node `json:"spans"`
}

// Node is a span in its lane.
type Node struct {
	Span
	Offset   time.Duration `json:"offset_ns"` // from the story's start
	Duration time.Duration `json:"duration_ns"`
	Depth    int           `json:"depth"` // 0 for a span without a parent in its lane
	// ErrorType is the attribute error.type of a failed span.
	ErrorType string `json:"error_type,omitempty"`
	// Delivery is the message's delivery number; 2 and more are redeliveries.
	Delivery int `json:"delivery,omitempty"`
	// Settlement is how the message was settled (ack, nak, term), if that is known.
	Settlement string `json:"settlement,omitempty"`
	// Batch is set on a span that processes several messages.
	Batch        *Batch `json:"batch,omitempty"`
	Compensation bool   `json:"compensation"`   // see Lane
	Critical     bool   `json:"critical"`       // the span is on the critical path
	Lost         []Edge `json:"lost,omitempty"` // see Parents
}

// Batch counts the links of a span that processes several messages.
type Batch struct {
	Links int `json:"links"`          // all
	Own   int `json:"links_of_order"` // this story's: the only ones among the edges
	// Boundary reports that the batch belongs to other stories, too. The story has it
	// without its children.
	Boundary bool `json:"boundary,omitempty"`
}

// Meeting is one of several stories that meet in a batch.
type Meeting struct {
	Ref            // the first span of the story that the batch links
	Service string `json:"service,omitempty"`
	Name    string `json:"name,omitempty"`
	Value   string `json:"value,omitempty"` // of [Options].Key
	Links   int    `json:"links"`           // of the batch, to this story
}

// Kinds of edges.
const (
	EdgeParent = "parent" // a span and its child
	EdgeLink   = "link"   // a linked span and the span that links it
	EdgeRetry  = "retry"  // a delivery and the next one: inferred from the delivery numbers
)

// Edge joins a cause to its effect. A link points the other way: from To to From.
type Edge struct {
	Kind string `json:"kind"`
	From Ref    `json:"from"` // the parent; the linked span; the delivery before
	To   Ref    `json:"to"`   // the child; the span that has the link; the next delivery

	// Of a link only: link.relationship (such as triggered_by), link.event_type, and
	// all attributes.
	Relationship string     `json:"relationship,omitempty"`
	EventType    string     `json:"event_type,omitempty"`
	Attributes   Attributes `json:"attributes,omitempty"`

	// Wait is the time from From's end to To's start, in a queue for example. It is 0
	// if To started earlier, and if From is missing.
	Wait time.Duration `json:"wait_ns"`
	// Missing reports that the story does not contain From. Gaps states why.
	Missing bool `json:"missing"`
	// Elsewhere reports that From is known, but belongs to another story, or is left out.
	// Missing is set, too.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// External reports that From belongs to the trace of an outside caller.
	External bool `json:"external"`
}

// CriticalPath is the chain of spans and waits that leads from the first span to the
// conclusion without a gap. If one of them gets shorter, so does the whole.
type CriticalPath struct {
	To       string        `json:"to"` // name of the span that the path ends with
	Duration time.Duration `json:"duration_ns"`
	// Segments follow each other in time; their durations add up to Duration.
	Segments []Segment `json:"segments"`
}

// Segment is a part of the critical path: a span's own work, or the wait before it.
type Segment struct {
	Ref
	Name     string        `json:"name"`
	Service  string        `json:"service"`
	Wait     bool          `json:"wait"` // in a queue, for a schedule, for a retry
	Offset   time.Duration `json:"offset_ns"`
	Duration time.Duration `json:"duration_ns"`
}

// Kinds of gaps. Applications add their own.
const (
	GapNoSpans      = "no_spans"       // the story has no span
	GapParent       = "parent"         // a span's parent is missing
	GapLinkTarget   = "link_target"    // a linked span is missing
	GapLinksDropped = "links_dropped"  // a span had more links than its SDK's limit
	GapTruncated    = "spans_left_out" // there are more spans than the story contains
	GapHub          = "hub"            // a cause has other consequences, which are left out
	GapSearch       = "search"         // the source could not search everything
)

// Gap is something that the story lacks.
type Gap struct {
	Kind    string `json:"kind"`
	Pending bool   `json:"pending"` // it is expected to arrive, and not lost
	Detail  string `json:"detail"`  // a sentence: what is missing, and the likely reason
	// Ref is the missing span if its id is known, else the span that lacks something.
	Ref
	EventType string `json:"event_type,omitempty"`
}

// Find returns the span with the given ids, nil if the story has none.
func (s *Story) Find(r Ref) *Node {
	for i := range s.Lanes {
		if s.Lanes[i].TraceID != r.TraceID {
			continue
		}
		for j := range s.Lanes[i].Spans {
			if s.Lanes[i].Spans[j].SpanID == r.SpanID {
				return &s.Lanes[i].Spans[j]
			}
		}
	}
	return nil
}

// Links returns the edges of a span's links.
func (s *Story) Links(to Ref) (edges []Edge) {
	for _, e := range s.Edges {
		if e.To == to && e.Kind == EdgeLink {
			edges = append(edges, e)
		}
	}
	return edges
}
