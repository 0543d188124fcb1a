package trail

import (
	"fmt"

	"ordertrail/internal/event"
)

func (s *stitcher) gap(g Gap) { s.trail.Gaps = append(s.trail.Gaps, g) }

// check compares the trail with what the stream says, and sums up what is missing.
func (s *stitcher) check() {
	o, t := s.order, s.trail
	switch {
	case o.Err != nil:
		s.gap(Gap{Kind: GapStream, Detail: "The stream could not be asked for the order's events: whether spans are missing is not known."})
	case o.State == "":
		s.gap(Gap{Kind: GapOrderUnknown, Detail: "The stream has no such order: it was never stored."})
	case o.Open:
		t.Pending = true
		s.gap(Gap{Kind: GapOpen, Detail: "The order is not over: more events will come."})
	}
	if len(s.members) == 0 {
		s.gap(Gap{Kind: GapNoSpans, Detail: "No span of the order is known: it was not sampled, its spans are forgotten, or they have not come in yet."})
	}
	handled := map[Ref]bool{}
	for _, e := range t.Edges {
		if e.Kind == EdgeLink {
			handled[e.From] = true
		}
	}
	for _, e := range o.Events {
		publisher := Ref{e.TraceID, e.SpanID}
		if e.TraceID == "" {
			s.gap(Gap{Kind: GapPublisher, EventType: string(e.Type), Detail: fmt.Sprintf("%s was published without a trace.", e.Type)})
			continue
		}
		if s.nodes[publisher] == nil {
			s.missed(GapPublisher, e, publisher, "The span that published %s")
		}
		if !handled[publisher] {
			s.missed(GapConsumer, e, publisher, "A span that handles %s")
		}
	}
	t.Complete = len(t.Gaps) == 0
}

// missed tells of a span that an event should have left.
func (s *stitcher) missed(kind string, e OrderEvent, publisher Ref, what string) {
	why := "is not known: it was not sampled, is forgotten, or was not exported."
	switch {
	case !e.Sampled:
		why = "is not known: the trace was not sampled."
	case s.order.Now.Sub(e.Time) < arriving:
		why = "has not come in yet."
		s.trail.Pending = true
	}
	s.gap(Gap{Kind: kind, Ref: publisher, EventType: string(e.Type), Detail: fmt.Sprintf(what+" ", event.Type(e.Type)) + why})
}
