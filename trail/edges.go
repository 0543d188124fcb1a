package trail

import (
	"cmp"
	"fmt"
	"slices"
)

// retries finds the delivery before each redelivery of a message to a consumer. Deliveries
// whose numbers do not increase are a fan-out.
func (s *stitcher) retries() {
	type consumer struct {
		service, group, destination, operation string
		creation                               Ref
	}
	deliveries := map[consumer][]*Node{}
	for _, m := range s.members {
		if n := s.nodes[m.Ref]; n.Kind == "consumer" && n.Delivery > 0 && n.Batch == nil {
			c := consumer{n.Service, n.Attributes.first(groupKeys), n.Attributes.Text(destinationKey), n.Attributes.first(operationKeys), m.creation()}
			deliveries[c] = append(deliveries[c], n)
		}
	}
	s.retried = map[Ref]*Node{}
	for c, nodes := range deliveries {
		slices.SortStableFunc(nodes, func(a, b *Node) int { return cmp.Compare(a.Delivery, b.Delivery) })
		increasing := c.creation != Ref{}
		for i := 1; i < len(nodes); i++ {
			increasing = increasing && nodes[i-1].Delivery < nodes[i].Delivery
		}
		for i := 1; i < len(nodes) && increasing; i++ {
			s.retried[nodes[i].Ref] = nodes[i-1]
		}
	}
}

// creation returns the span that created the message of a consumer's span: the first that
// it links, else its parent.
func (s *Span) creation() Ref {
	for _, l := range s.Links {
		if r := l.Attributes.Text(relationshipKey); r != "redrive_of" && r != "cancels" && l.valid() {
			return l.Ref
		}
	}
	if s.ParentID == "" {
		return Ref{}
	}
	return Ref{s.TraceID, s.ParentID}
}

// edges makes the edges that lead to each span: from its parent, from the delivery
// before, and from the spans that it links. Each missing span gives one gap.
func (s *stitcher) edges() {
	missing := newPhantoms()
	add := func(e Edge) { s.story.Edges = append(s.story.Edges, e) }
	for _, span := range s.members {
		if span.ParentID != "" {
			e := Edge{Kind: EdgeParent, From: Ref{span.TraceID, span.ParentID}, To: span.Ref}
			s.locate(&e, missing, span, nil)
			add(e)
		}
		if before := s.retried[span.Ref]; before != nil {
			add(Edge{Kind: EdgeRetry, From: before.Ref, To: span.Ref, Wait: max(0, span.Start.Sub(before.End))})
		}
		for _, l := range s.links(span) {
			if !l.valid() {
				continue
			}
			e := Edge{
				Kind: EdgeLink, From: l.Ref, To: span.Ref, Attributes: l.Attributes,
				Relationship: l.Attributes.Text(relationshipKey), EventType: l.Attributes.Text(linkEventKey),
			}
			s.locate(&e, missing, span, &l)
			add(e)
		}
		if span.DroppedLinks > 0 {
			s.story.AddGap(Gap{Kind: GapLinksDropped, Ref: span.Ref, Detail: fmt.Sprintf("%s %q lost %d of its links to a limit (OTEL_SPAN_LINK_COUNT_LIMIT): some of them may belong here.", span.Service, span.Name, span.DroppedLinks)})
		}
	}
	missing.report(s.story)
}

// locate completes an edge to a span, by a link or, if it is nil, from a parent.
func (s *stitcher) locate(e *Edge, missing *phantoms, span *Span, l *Link) {
	e.External = l != nil && l.untrusted()
	if from := s.nodes[e.From]; from != nil {
		e.Wait = max(0, span.Start.Sub(from.End))
		return
	}
	e.Missing = true
	if e.Elsewhere = s.span(e.From) != nil; e.Elsewhere || e.External {
		return
	}
	if e.External = !s.vertices[s.index[e.From]].described; !e.External {
		missing.add(*e, span)
	}
}

// phantoms are spans that other spans refer to, and that are missing.
type phantoms struct {
	gaps []Gap
	at   map[Ref]int // in gaps
	more []int       // further spans that refer to it
	last []Ref       // the last of all
}

func newPhantoms() *phantoms { return &phantoms{at: map[Ref]int{}} }

func (p *phantoms) add(e Edge, span *Span) {
	if i, ok := p.at[e.From]; ok {
		if p.last[i] != span.Ref { // it may refer to it twice
			p.more[i]++
			p.last[i] = span.Ref
		}
		return
	}
	g := Gap{Kind: GapParent, Ref: e.From, Detail: fmt.Sprintf("The parent of %s %q is missing: it has not ended yet, was not sampled, or is no longer kept.", span.Service, span.Name)}
	if e.Kind == EdgeLink {
		g = Gap{Kind: GapLinkTarget, Ref: e.From, EventType: e.EventType, Detail: fmt.Sprintf("%s %q links a span that is missing: it was not sampled, was not exported, or is no longer kept.", span.Service, span.Name)}
	}
	p.at[e.From] = len(p.gaps)
	p.gaps, p.more, p.last = append(p.gaps, g), append(p.more, 0), append(p.last, span.Ref)
}

func (p *phantoms) report(s *Story) {
	for i, g := range p.gaps {
		if p.more[i] > 0 {
			g.Detail += fmt.Sprintf(" %d spans refer to it.", p.more[i]+1)
		}
		s.AddGap(g)
	}
}
