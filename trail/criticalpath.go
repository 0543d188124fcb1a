package trail

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
)

// criticalPath walks back from the order's conclusion: through what a span did last
// before, to its parent, and from a trace's first span to what that was caused by,
// the delivery before or the event that it links.
func (s *stitcher) criticalPath() CriticalPath {
	w := pathWalker{stitcher: s, segments: []Segment{}, seen: map[Ref]bool{}}
	target := s.conclusion()
	if target == nil {
		return CriticalPath{Segments: w.segments}
	}
	w.cursor = target.End
	for at := target; at != nil && !w.seen[at.Ref]; {
		w.within(at)
		if parent := s.nodes[Ref{at.TraceID, at.ParentID}]; parent != nil {
			at = parent
			continue
		}
		cause := s.cause(at)
		if cause != nil {
			w.to(at, cause.End, true)
		}
		at = cause
	}
	slices.Reverse(w.segments)
	return CriticalPath{To: target.Name, Duration: target.End.Sub(w.cursor), Segments: w.segments}
}

// conclusion is the span that the critical path leads to: the one that published the
// order's end, else the one that ended last.
func (s *stitcher) conclusion() *Node {
	for _, e := range s.order.Events {
		if e.Type == event.FulfillmentShipped || e.Type == event.FulfillmentCancelled {
			if n := s.nodes[Ref{e.TraceID, e.SpanID}]; n != nil {
				return n
			}
		}
	}
	var last *Node
	for _, m := range s.members {
		n := s.nodes[m.Ref]
		if t := event.Type(strings.TrimPrefix(n.Name, "publish ")); n.Status != StatusError && (t == event.FulfillmentShipped || t == event.FulfillmentCancelled) {
			return n
		}
		if last == nil || n.End.After(last.End) {
			last = n
		}
	}
	return last
}

// cause is what the first span of a trace goes back to: nil if nothing is known of
// it.
func (s *stitcher) cause(n *Node) *Node {
	if before := s.nodes[s.retried[n.Ref]]; before != nil {
		return before
	}
	var causes []*Node
	asked := false // for the order's end, which is the reason only if there is no other
	for _, l := range s.links(s.known[n.Ref]) {
		from := s.nodes[l.Ref]
		if from == nil {
			continue
		}
		switch cancels := l.Attributes.Text(relationshipKey) == "cancels"; {
		case cancels && len(causes) > 0:
			continue
		case !cancels && asked:
			causes, asked = nil, false
		case cancels:
			asked = true
		}
		causes = append(causes, from)
	}
	if len(causes) == 0 {
		return nil
	}
	return slices.MaxFunc(causes, func(a, b *Node) int { return cmp.Or(a.End.Compare(b.End), compareRefs(a.Ref, b.Ref)) })
}

// pathWalker goes back in time. Segments are added last one first.
type pathWalker struct {
	*stitcher
	segments []Segment
	cursor   time.Time // everything after it is in segments
	seen     map[Ref]bool
}

// to adds what span did, or waited for, since a time, and goes there. Clocks of
// different machines may disagree: the path never goes forward.
func (w *pathWalker) to(span *Node, since time.Time, wait bool) {
	if !since.Before(w.cursor) {
		return
	}
	w.segments = append(w.segments, Segment{
		Ref: span.Ref, Name: span.Name, Service: span.Service, Wait: wait,
		Offset: since.Sub(w.trail.Start), Duration: w.cursor.Sub(since),
	})
	w.cursor = since
}

// within goes back to a span's start, through those of its children that it must
// have waited for: of several at a time, the one that ended last.
func (w *pathWalker) within(n *Node) {
	if w.seen[n.Ref] {
		return
	}
	w.seen[n.Ref] = true
	n.Critical = true
	children := slices.SortedFunc(slices.Values(w.children[n.Ref]), func(a, b *Node) int {
		return cmp.Or(b.End.Compare(a.End), compareRefs(a.Ref, b.Ref))
	})
	for _, c := range children {
		if c.End.After(w.cursor) || !c.End.After(n.Start) || w.seen[c.Ref] {
			continue
		}
		w.to(n, c.End, false)
		w.within(c)
	}
	w.to(n, n.Start, false)
}
