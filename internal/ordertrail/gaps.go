package ordertrail

import (
	"fmt"
	"slices"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/trail"
)

// Kinds of gaps, beside those of package trail.
const (
	GapOrderUnknown = "order_unknown" // the stream has no such order
	GapStream       = "stream"        // the stream could not be read
	GapOpen         = "order_open"    // more events will follow
	GapPublisher    = "publisher"     // an event is stored, the span that published it is missing
	GapConsumer     = "consumer"      // an event is stored, no span links its publisher
	GapDeadline     = "deadline"      // the order's deadline has no span yet
)

// arriving is how long after an event its spans may still be under way: they must
// end, be exported, and be stored.
const arriving = 10 * time.Second

const lost = " is missing: it was not sampled, was not exported, or is no longer kept."

// addGaps compares the story with the stream's events.
func (t *Trail) addGaps(o Order) {
	switch {
	case o.Err != nil:
		t.AddGap(trail.Gap{Kind: GapStream, Detail: "The stream could not be read: spans may be missing without notice."})
	case o.State == "":
		t.AddGap(trail.Gap{Kind: GapOrderUnknown, Detail: "The stream has no such order: it was never stored."})
	case o.Open:
		t.AddGap(trail.Gap{Kind: GapOpen, Pending: true, Detail: "The order is not finished: more events will follow."})
	}
	if len(t.Lanes) == 0 {
		t.AddGap(trail.Gap{Kind: trail.GapNoSpans, Detail: "The order has no spans: they were not sampled, have not arrived yet, or are no longer kept."})
	}
	linked := map[trail.Ref]bool{}
	for _, e := range t.Edges {
		if e.Kind == trail.EdgeLink {
			linked[e.From] = true
		}
	}
	for _, e := range o.Events {
		publisher := trail.Ref{TraceID: e.TraceID, SpanID: e.SpanID}
		if e.TraceID == "" {
			t.AddGap(trail.Gap{Kind: GapPublisher, EventType: string(e.Type), Detail: fmt.Sprintf("%s was published without a trace.", e.Type)})
			continue
		}
		g := trail.Gap{Ref: publisher, EventType: string(e.Type)}
		why := lost
		switch {
		case !e.Sampled:
			why = " is missing: the trace was not sampled."
		case o.Now.Sub(e.Time) < arriving:
			why, g.Pending = " has not arrived yet.", true
		}
		if t.Find(publisher) == nil {
			g.Kind, g.Detail = GapPublisher, fmt.Sprintf("The span that published %s", e.Type)+why
			// Spans that refer to it have made a gap, which knows less.
			t.Gaps = slices.DeleteFunc(t.Gaps, func(g trail.Gap) bool {
				return g.Ref == publisher && (g.Kind == trail.GapParent || g.Kind == trail.GapLinkTarget)
			})
			t.AddGap(g)
		}
		if !linked[publisher] {
			g.Kind, g.Detail = GapConsumer, fmt.Sprintf("A span that processes %s", e.Type)+why
			t.AddGap(g)
		}
	}
	t.addDeadlineGap(o, linked)
}

// addDeadlineGap adds a gap if no span processes the order's deadline, which comes due
// for every order, finished or not.
func (t *Trail) addDeadlineGap(o Order, linked map[trail.Ref]bool) {
	for _, l := range t.Lanes {
		for _, n := range l.Spans {
			if published(&n.Span) != event.DeadlineAt || linked[n.Ref] || n.Status == trail.StatusError {
				continue
			}
			g := trail.Gap{Kind: GapDeadline, Ref: n.Ref, EventType: string(event.DeadlineDue), Detail: "A span that processes the order's deadline" + lost}
			if left := o.Deadline.Sub(o.Now); left > -arriving {
				g.Pending = true
				g.Detail = fmt.Sprintf("The order's deadline comes due in %s.", trail.Duration(max(0, left)))
			}
			t.AddGap(g)
		}
	}
}
