package trail

import "slices"

// Parents returns a story as parents alone would draw it, without links: the first cause
// of each span becomes its parent, so that the spans of all traces form one tree. Its
// other causes are lost: Node.Lost has those that do not lead to the span any more, and
// Story.Lost counts them. A batch keeps one cause of many; no SDK could record it so.
func Parents(s *Story) *Story {
	var nodes []*Node
	byRef := map[Ref]*Node{}
	for i := range s.Lanes {
		for j := range s.Lanes[i].Spans {
			n := &s.Lanes[i].Spans[j]
			nodes = append(nodes, n)
			byRef[n.Ref] = n
		}
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return compareSpans(&a.Span, &b.Span) })
	parents, links := map[Ref]Ref{}, map[Ref][]Edge{}
	for _, e := range s.Edges {
		switch {
		case e.Missing || e.External:
		case e.Kind == EdgeParent:
			parents[e.To] = e.From
		case e.Kind == EdgeLink:
			links[e.To] = append(links[e.To], e)
		}
	}
	f := newForest(nodes, parents)
	for _, n := range nodes {
		if _, has := parents[n.Ref]; has {
			continue
		}
		for _, e := range links[n.Ref] {
			// The span is a root: it must not become its own ancestor.
			if f.root(e.From) != n.Ref {
				parents[n.Ref] = e.From
				f.attach(n.Ref, e.From)
				break
			}
		}
	}
	f.number(nodes, parents)
	spans := make([]Span, len(nodes))
	lost := map[Ref][]Edge{}
	for i, n := range nodes {
		span := n.Span
		span.TraceID, span.DroppedLinks = f.root(n.Ref).TraceID, 0 // each tree is one trace
		if parent, has := parents[n.Ref]; has {
			span.ParentID = parent.SpanID
		}
		spans[i] = span
		for _, e := range links[n.Ref] {
			if !f.leads(e.From, n.Ref) {
				e.From.TraceID, e.To = f.root(e.From).TraceID, span.Ref
				lost[span.Ref] = append(lost[span.Ref], e)
			}
		}
	}
	drawn := &stitcher{
		closure: newGraph(spans, "").closure(""), nodes: map[Ref]*Node{},
		story: &Story{Lanes: []Lane{}, Edges: []Edge{}, Gaps: []Gap{}, Complete: true},
	}
	for i := range spans {
		drawn.members = append(drawn.members, &spans[i])
	}
	slices.SortFunc(drawn.members, compareSpans)
	if path := s.CriticalPath.Segments; len(path) > 0 {
		end := path[len(path)-1].SpanID
		drawn.Until = func(s *Span) bool { return s.SpanID == end }
	}
	story := drawn.assemble()
	story.Stories = s.Stories
	for i, n := range nodes {
		of := drawn.nodes[spans[i].Ref]
		of.Batch, of.Compensation, of.Lost = n.Batch, n.Compensation, lost[of.Ref]
		story.Lost += len(of.Lost)
	}
	for _, g := range s.Gaps {
		if g.Kind != GapParent && g.Kind != GapLinkTarget {
			story.AddGap(g)
		}
	}
	return story
}
