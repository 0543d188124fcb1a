package trail

import (
	"fmt"
	"slices"
	"strings"

	"example.org/ordertrail/internal/event"
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
		s.gap(Gap{Kind: GapOpen, Pending: true, Detail: "The order is not over: more events will come."})
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
	s.deadline(handled)
	for i, g := range t.Gaps {
		if g.Kind == GapLinkTarget && slices.ContainsFunc(t.Gaps, func(p Gap) bool { return p.Kind == GapPublisher && p.Pending && p.Ref == g.Ref }) {
			t.Gaps[i].Pending = true
			t.Gaps[i].Detail = strings.Replace(g.Detail, lost, "has not come in yet.", 1)
		}
	}
	t.Complete = len(t.Gaps) == 0
	t.Pending = slices.ContainsFunc(t.Gaps, func(g Gap) bool { return g.Pending })
}

// lost is why what is not known is not.
const lost = "is not known: it was not sampled, is forgotten, or was not exported."

// missed tells of a span that an event should have left.
func (s *stitcher) missed(kind string, e OrderEvent, publisher Ref, what string) {
	why, pending := lost, false
	switch {
	case !e.Sampled:
		why = "is not known: the trace was not sampled."
	case s.order.Now.Sub(e.Time) < arriving:
		why, pending = "has not come in yet.", true
	}
	s.gap(Gap{Kind: kind, Pending: pending, Ref: publisher, EventType: string(e.Type), Detail: fmt.Sprintf(what+" ", event.Type(e.Type)) + why})
}

// deadline tells of a deadline that is still to come due. It comes for every order,
// concluded or not.
func (s *stitcher) deadline(handled map[Ref]bool) {
	for _, m := range s.members {
		if m.Name != "publish "+string(event.DeadlineAt) || handled[m.Ref] || m.Status == StatusError {
			continue
		}
		g := Gap{Kind: GapDeadline, Ref: m.Ref, EventType: string(event.DeadlineDue)}
		if left := s.order.Deadline.Sub(s.order.Now); left > -arriving {
			g.Pending = true
			g.Detail = fmt.Sprintf("The order's deadline comes due in %s, and is handled then.", duration(max(0, left)))
		} else {
			g.Detail = "A span that handles the order's deadline " + lost
		}
		s.gap(g)
	}
}
