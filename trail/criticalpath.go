package trail

import (
	"cmp"
	"slices"
	"time"
)

// criticalPath walks back from the story's conclusion: through the children that each
// span waited for, to its parent or to the span that it links.
func (s *stitcher) criticalPath() CriticalPath {
	w := pathWalker{stitcher: s, segments: []Segment{}, seen: map[Ref]bool{}}
	target := s.conclusion()
	if target == nil {
		return CriticalPath{Segments: w.segments}
	}
	w.cursor = target.End
	for at := target; at != nil && !w.seen[at.Ref]; {
		w.within(at)
		cause := s.cause(at)
		if cause != nil {
			// What lies between the two is a wait. A span's parent may still run, and wait.
			w.to(at, cause.End, true)
		}
		at = cause
	}
	slices.Reverse(w.segments)
	return CriticalPath{To: target.Name, Duration: target.End.Sub(w.cursor), Segments: w.segments}
}

// conclusion returns the span that the critical path leads to.
func (s *stitcher) conclusion() (last *Node) {
	for _, m := range s.members {
		n := s.nodes[m.Ref]
		if s.Until != nil && n.Status != StatusError && s.Until(&n.Span) {
			return n
		}
		if (n.Batch == nil || !n.Batch.Boundary) && (last == nil || n.End.After(last.End)) {
			last = n
		}
	}
	return last
}

// cause returns the delivery before, else the span that ended last of those that the span
// links if its parent has waited for that one or it has no parent, else the parent. The
// span that it cancels is the cause only if there is no other.
func (s *stitcher) cause(n *Node) *Node {
	if before := s.retried[n.Ref]; before != nil {
		return before
	}
	var cause, cancelled *Node
	for _, l := range s.links(s.span(n.Ref)) {
		from, last := s.nodes[l.Ref], &cause
		if l.Attributes.Text(relationshipKey) == "cancels" {
			last = &cancelled
		}
		if from != nil && (*last == nil || endsLater(from, *last) < 0) {
			*last = from
		}
	}
	cause = cmp.Or(cause, cancelled)
	parent := s.nodes[Ref{n.TraceID, n.ParentID}]
	if parent != nil && (cause == nil || !cause.End.After(parent.Start) || cause.End.After(n.Start)) {
		return parent
	}
	return cause
}

// endsLater compares by end, the latest first.
func endsLater(a, b *Node) int {
	return cmp.Or(b.End.Compare(a.End), compareRefs(a.Ref, b.Ref))
}

// pathWalker goes back in time. It adds the last segment first.
type pathWalker struct {
	*stitcher
	segments []Segment
	cursor   time.Time // the segments cover everything after it
	seen     map[Ref]bool
}

// to adds the work or the wait of a span since a time, and moves the cursor there. The
// clocks of two machines may disagree: the cursor never moves forward.
func (w *pathWalker) to(span *Node, since time.Time, wait bool) {
	if !since.Before(w.cursor) {
		return
	}
	w.segments = append(w.segments, Segment{
		Ref: span.Ref, Name: span.Name, Service: span.Service, Wait: wait,
		Offset: since.Sub(w.story.Start), Duration: w.cursor.Sub(since),
	})
	w.cursor = since
}

// within goes back to a span's start, through the children that it waited for: of
// children that overlap, the one that ended last.
func (w *pathWalker) within(n *Node) {
	if w.seen[n.Ref] {
		return
	}
	w.seen[n.Ref] = true
	n.Critical = true
	for _, c := range slices.SortedFunc(slices.Values(w.children[n.Ref]), endsLater) {
		if c.End.After(w.cursor) || !c.End.After(n.Start) || w.seen[c.Ref] {
			continue
		}
		w.to(n, c.End, false)
		w.within(c)
	}
	w.to(n, n.Start, false)
}
