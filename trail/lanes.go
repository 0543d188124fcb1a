package trail

import (
	"maps"
	"slices"
	"time"
)

// lanes sorts the spans into their traces and trees.
func (s *stitcher) lanes() {
	if len(s.members) == 0 {
		return
	}
	byTrace := map[string][]*Span{}
	var traces []string // by their first span
	own := map[Ref]bool{}
	for _, m := range s.members {
		if byTrace[m.TraceID] == nil {
			traces = append(traces, m.TraceID)
		}
		byTrace[m.TraceID] = append(byTrace[m.TraceID], m)
		own[m.Ref] = true
	}
	s.story.Start = s.members[0].Start
	s.story.End = latest(s.members)
	s.story.Duration = s.story.End.Sub(s.story.Start)
	for _, id := range traces {
		s.story.Lanes = append(s.story.Lanes, s.lane(id, byTrace[id], own))
	}
	s.children = map[Ref][]*Node{}
	for i := range s.story.Lanes {
		for j := range s.story.Lanes[i].Spans {
			n := &s.story.Lanes[i].Spans[j]
			s.nodes[n.Ref] = n
			if n.Depth > 0 {
				parent := Ref{n.TraceID, n.ParentID}
				s.children[parent] = append(s.children[parent], n)
			}
		}
	}
}

func (s *stitcher) lane(id string, spans []*Span, own map[Ref]bool) Lane {
	children := map[string][]*Span{}
	var roots []*Span
	for _, span := range spans {
		if own[Ref{id, span.ParentID}] {
			children[span.ParentID] = append(children[span.ParentID], span)
		} else {
			roots = append(roots, span)
		}
	}
	start := spans[0].Start
	l := Lane{TraceID: id, Start: start, Offset: start.Sub(s.story.Start), Duration: latest(spans).Sub(start)}
	services := map[string]bool{}
	placed := map[string]bool{}
	var place func(*Span, int)
	place = func(span *Span, depth int) {
		if placed[span.SpanID] {
			return
		}
		placed[span.SpanID] = true
		services[span.Service] = true
		l.Failed = l.Failed || span.Status == StatusError
		l.Spans = append(l.Spans, s.node(span, depth))
		for _, child := range children[span.SpanID] {
			place(child, depth+1)
		}
	}
	// The spans of a circle of parents come last: no root leads to them.
	for _, span := range slices.Concat(roots, spans) {
		place(span, 0)
	}
	l.Service, l.Name, l.Delivery = l.Spans[0].Service, l.Spans[0].Name, l.Spans[0].Delivery
	l.Services = slices.Sorted(maps.Keys(services))
	return l
}

func latest(spans []*Span) time.Time {
	end := spans[0].Start // a span may end before it starts
	for _, span := range spans {
		if span.End.After(end) {
			end = span.End
		}
	}
	return end
}

func (s *stitcher) node(span *Span, depth int) Node {
	n := Node{
		Span: *span, Depth: depth,
		Offset: span.Start.Sub(s.story.Start), Duration: span.End.Sub(span.Start),
		Delivery:   span.delivery(),
		Settlement: span.Attributes.Text(settlementKey),
	}
	n.Span.Links = nil
	if span.Status == StatusError {
		n.ErrorType = span.Attributes.Text(errorTypeKey)
	}
	if span.batch() || s.border(span) {
		n.Batch = &Batch{Links: len(span.Links) + span.DroppedLinks, Own: len(s.links(span)), Boundary: s.border(span)}
		if s.story.Stories != nil {
			n.Batch.Own = 0
		}
	}
	return n
}
