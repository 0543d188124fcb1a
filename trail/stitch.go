package trail

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Attributes that a story is read from.
const (
	relationshipKey = "link.relationship"
	linkTraceKey    = "link.trace_id"
	linkEventKey    = "link.event_type"
	untrustedKey    = "link.untrusted"
	errorTypeKey    = "error.type"
	destinationKey  = "messaging.destination.name"
	groupKey        = "messaging.consumer.group.name"
	operationKey    = "messaging.operation.type"
	deliveryKey     = "messaging.nats.message.delivery_count"
	settlementKey   = "messaging.nats.message.settlement"
	refusedKey      = "call.refused"
)

// MaxSpans is how many spans a story has at most, the earliest ones.
const MaxSpans = 2000

// Options select a story's spans.
type Options struct {
	// Key and Value are the attribute that the spans have in common, such as order.id.
	Key, Value string
	// Until holds span names: the critical path ends at the first such span that did
	// not fail. Without one it ends at the span that ended last.
	Until []string
	// Publisher returns the service that publishes an event type. The service map needs
	// it where the publisher's span is missing; if nil, those links are left out.
	Publisher func(eventType string) string
}

// Stitch makes a story of spans. A span belongs to it if its own attribute has the
// value, or, without such an attribute, if a link has the value, as in a batch. The
// ancestors and descendants of these spans that have no value at all belong to it too.
func Stitch(found Spans, o Options) *Story {
	s := stitcher{
		Options: o,
		story:   &Story{Lanes: []Lane{}, Edges: []Edge{}, Gaps: []Gap{}, Complete: true},
		known:   make(map[Ref]*Span, len(found.Spans)),
		nodes:   map[Ref]*Node{},
	}
	for i := range found.Spans {
		s.known[found.Spans[i].Ref] = &found.Spans[i]
	}
	s.choose(found.Truncated)
	s.lanes()
	s.retries()
	s.edges()
	s.story.CriticalPath = s.criticalPath()
	s.story.Services = serviceMap(s.members, s.links, s.known, o.Publisher)
	return s.story
}

// AddGap adds a gap.
func (s *Story) AddGap(g Gap) {
	s.Gaps = append(s.Gaps, g)
	s.Complete = false
	s.Pending = s.Pending || g.Pending
}

type stitcher struct {
	Options
	story    *Story
	known    map[Ref]*Span // every span that was found
	members  []*Span       // the story's spans, by start
	nodes    map[Ref]*Node // the story's spans, in their lanes
	children map[Ref][]*Node
	retried  map[Ref]*Node // by the later delivery: the one before
}

// batch reports whether a span may belong to several stories.
func (s *stitcher) batch(span *Span) bool {
	return span.Attributes.Text(s.Key) == "" && len(span.values(s.Key)) > 0
}

// links returns the links of a span that belong to the story.
func (s *stitcher) links(span *Span) []Link {
	if !s.batch(span) {
		return span.Links
	}
	var own []Link
	for _, l := range span.Links {
		if l.Attributes.Text(s.Key) == s.Value {
			own = append(own, l)
		}
	}
	return own
}

// choose finds the spans that belong to the story.
func (s *stitcher) choose(truncated bool) {
	neutral := map[Ref][]*Span{} // by parent: the spans without a value
	for _, span := range s.known {
		if len(span.values(s.Key)) == 0 {
			parent := Ref{span.TraceID, span.ParentID}
			neutral[parent] = append(neutral[parent], span)
		}
	}
	own := map[Ref]bool{}
	var add func(*Span)
	add = func(span *Span) {
		if own[span.Ref] {
			return
		}
		own[span.Ref] = true
		s.members = append(s.members, span)
		if s.batch(span) {
			return // its children belong to the other stories just as much
		}
		for _, child := range neutral[span.Ref] {
			add(child)
		}
		if parent := s.known[Ref{span.TraceID, span.ParentID}]; parent != nil && len(parent.values(s.Key)) == 0 {
			add(parent)
		}
	}
	for _, span := range s.known {
		if slices.Contains(span.values(s.Key), s.Value) {
			add(span)
		}
	}
	slices.SortFunc(s.members, func(a, b *Span) int {
		return cmp.Or(a.Start.Compare(b.Start), compareRefs(a.Ref, b.Ref))
	})
	if len(s.members) > MaxSpans {
		s.members, truncated = s.members[:MaxSpans], true
	}
	if truncated {
		s.story.AddGap(Gap{Kind: GapTruncated, Detail: fmt.Sprintf("There are more spans than the %d shown here.", len(s.members))})
	}
}

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
	delivery, _ := span.Attributes[deliveryKey].(int64)
	n := Node{
		Span: *span, Depth: depth,
		Offset: span.Start.Sub(s.story.Start), Duration: span.End.Sub(span.Start),
		Delivery:   int(delivery),
		Settlement: span.Attributes.Text(settlementKey),
	}
	n.Span.Links = nil
	if span.Status == StatusError {
		n.ErrorType = span.Attributes.Text(errorTypeKey)
	}
	if s.batch(span) {
		n.Batch = &Batch{Links: len(span.Links) + span.DroppedLinks, Own: len(s.links(span))}
	}
	return n
}

// retries finds the delivery before each redelivery of a message to a consumer.
func (s *stitcher) retries() {
	type consumer struct{ service, group, subject string }
	deliveries := map[consumer][]*Node{}
	for _, m := range s.members {
		n := s.nodes[m.Ref]
		if n.Kind == "consumer" && n.Delivery > 0 && n.Batch == nil {
			c := consumer{n.Service, n.Attributes.Text(groupKey), n.Attributes.Text(destinationKey)}
			deliveries[c] = append(deliveries[c], n)
		}
	}
	s.retried = map[Ref]*Node{}
	for _, nodes := range deliveries {
		slices.SortStableFunc(nodes, func(a, b *Node) int { return cmp.Compare(a.Delivery, b.Delivery) })
		for i := 1; i < len(nodes); i++ {
			if nodes[i-1].Delivery < nodes[i].Delivery {
				s.retried[nodes[i].Ref] = nodes[i-1]
			}
		}
	}
}

// edges makes the edges that lead to each span: from its parent, from the delivery
// before, and from the spans that it links.
func (s *stitcher) edges() {
	add := func(e Edge) { s.story.Edges = append(s.story.Edges, e) }
	for _, span := range s.members {
		if span.ParentID != "" {
			e := Edge{Kind: EdgeParent, From: Ref{span.TraceID, span.ParentID}, To: span.Ref}
			if e.Missing = s.nodes[e.From] == nil; e.Missing {
				s.story.AddGap(Gap{Kind: GapParent, Ref: e.From, Detail: fmt.Sprintf("The parent of %s %q is missing: it has not ended yet, was not sampled, or is no longer kept.", span.Service, span.Name)})
			}
			add(e)
		}
		if before := s.retried[span.Ref]; before != nil {
			add(Edge{Kind: EdgeRetry, From: before.Ref, To: span.Ref, Wait: max(0, span.Start.Sub(before.End))})
		}
		for _, l := range s.links(span) {
			add(s.link(span, l))
		}
		if span.DroppedLinks > 0 {
			s.story.AddGap(Gap{Kind: GapLinksDropped, Ref: span.Ref, Detail: fmt.Sprintf("%s %q lost %d of its links to a limit (OTEL_SPAN_LINK_COUNT_LIMIT): some of them may belong here.", span.Service, span.Name, span.DroppedLinks)})
		}
	}
}

func (s *stitcher) link(span *Span, l Link) Edge {
	e := Edge{
		Kind: EdgeLink, From: l.Ref, To: span.Ref, Attributes: l.Attributes,
		Relationship: l.Attributes.Text(relationshipKey), EventType: l.Attributes.Text(linkEventKey),
	}
	if from := s.nodes[l.Ref]; from != nil {
		e.Wait = max(0, span.Start.Sub(from.End))
		return e
	}
	e.Missing = true
	// Links that package tracing makes have link.trace_id. An outside caller's link has
	// no attributes, or is marked as untrusted.
	e.External = l.Attributes.Text(linkTraceKey) == "" || l.Attributes[untrustedKey] == true
	if !e.External {
		s.story.AddGap(Gap{Kind: GapLinkTarget, Ref: l.Ref, EventType: e.EventType, Detail: fmt.Sprintf("%s %q links a span that is missing: it was not sampled, was not exported, or is no longer kept.", span.Service, span.Name)})
	}
	return e
}
