package trail

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
)

// Attributes that trails are read from: the conventions' and pkg/tracing's.
const (
	orderIDKey      = string(event.OrderIDKey)
	relationshipKey = "link.relationship"
	linkTraceKey    = "link.trace_id"
	linkEventKey    = "link.event_type"
	untrustedKey    = "link.untrusted"
	errorTypeKey    = "error.type"
	destinationKey  = "messaging.destination.name"
	groupKey        = "messaging.consumer.group.name"
	deliveryKey     = "messaging.nats.message.delivery_count"
	operationKey    = "messaging.operation.type"
	settlementKey   = "messaging.nats.message.settlement"
	compensationKey = string(event.CompensationKey)
)

// MaxSpans is how many spans a trail has at most, the earliest ones: an order leaves
// about fifty.
const MaxSpans = 2000

// arriving is how long after an event its spans may still be on their way: they end,
// are exported, and are stored.
const arriving = 10 * time.Second

// Order is what the stream says about an order. A trail checks itself against it.
type Order struct {
	ID       string
	State    string // "" if the stream has no such order, or could not be asked
	Reason   string
	Refunded bool
	Open     bool         // more events will come
	Events   []OrderEvent // in stream order
	Err      error        // why the stream could not be asked
	Deadline time.Time    // when its deadline comes due; zero if that is not known
	Now      time.Time    // when it was asked
}

// Stitch makes an order's trail of spans, among which there may be others'. A span
// belongs to the order if its order.id says so, or if one of its links does, as on a
// batch; also its ancestors, and what it calls, if they name no order.
func Stitch(order Order, found Spans) *Trail {
	s := stitcher{
		order: order,
		trail: &Trail{
			OrderID: order.ID, State: order.State, Reason: order.Reason, Refunded: order.Refunded,
			Events: slices.Concat([]OrderEvent{}, order.Events), Lanes: []Lane{}, Edges: []Edge{}, Gaps: []Gap{},
		},
		known: make(map[Ref]*Span, len(found.Spans)),
		nodes: map[Ref]*Node{},
	}
	for i := range found.Spans {
		s.known[found.Spans[i].Ref] = &found.Spans[i]
	}
	s.choose(found)
	s.lanes()
	s.edges()
	s.retries()
	s.trail.CriticalPath = s.criticalPath()
	s.services()
	s.check()
	return s.trail
}

type stitcher struct {
	order    Order
	trail    *Trail
	known    map[Ref]*Span // every span that was found
	members  []*Span       // the order's, by start
	nodes    map[Ref]*Node // the order's, in their lanes
	children map[Ref][]*Node
	retried  map[Ref]Ref // a delivery's process span to that of the delivery before
}

// orders returns the ids of the orders that a span says it belongs to.
func (s *Span) orders() []string {
	if id := s.Attributes.Text(orderIDKey); id != "" {
		return []string{id}
	}
	var ids []string
	for _, l := range s.Links {
		if id := l.Attributes.Text(orderIDKey); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// names tells whether a span says that it belongs to the order.
func (s *Span) names(order string) bool {
	if id := s.Attributes.Text(orderIDKey); id != "" {
		return id == order
	}
	return slices.ContainsFunc(s.Links, func(l Link) bool { return l.Attributes.Text(orderIDKey) == order })
}

// batch tells whether a span is about several orders, possibly: it names none itself.
func (s *Span) batch() bool {
	return s.Attributes.Text(orderIDKey) == "" &&
		slices.ContainsFunc(s.Links, func(l Link) bool { return l.Attributes.Text(orderIDKey) != "" })
}

// choose finds the spans that belong to the order.
func (s *stitcher) choose(found Spans) {
	mine := map[Ref]bool{}
	below := map[Ref][]*Span{} // by parent, those that name no order
	for _, span := range s.known {
		if len(span.orders()) == 0 {
			parent := Ref{span.TraceID, span.ParentID}
			below[parent] = append(below[parent], span)
		}
	}
	var grow func(*Span)
	grow = func(span *Span) {
		if mine[span.Ref] {
			return
		}
		mine[span.Ref] = true
		if span.batch() {
			return // what it calls is as much about the others
		}
		for _, child := range below[span.Ref] {
			grow(child)
		}
		if parent := s.known[Ref{span.TraceID, span.ParentID}]; parent != nil && len(parent.orders()) == 0 {
			grow(parent)
		}
	}
	for _, span := range s.known {
		if span.names(s.order.ID) {
			grow(span)
		}
	}
	for ref := range mine {
		s.members = append(s.members, s.known[ref])
	}
	slices.SortFunc(s.members, func(a, b *Span) int {
		return cmp.Or(a.Start.Compare(b.Start), compareRefs(a.Ref, b.Ref))
	})
	left := len(s.members) - MaxSpans
	if left > 0 {
		s.members = s.members[:MaxSpans]
	}
	if left > 0 || found.Truncated {
		s.gap(Gap{Kind: GapTruncated, Detail: "The order has more spans than are shown: these are " + fmt.Sprint(len(s.members)) + "."})
	}
}

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.TraceID, b.TraceID), cmp.Compare(a.SpanID, b.SpanID))
}

// lanes sorts the order's spans into their traces and trees.
func (s *stitcher) lanes() {
	t := s.trail
	if len(s.members) == 0 {
		return
	}
	t.Start, t.End = s.members[0].Start, s.members[0].End
	byTrace := map[string][]*Span{}
	var traces []string // by their first span
	belongs := make(map[Ref]bool, len(s.members))
	for _, m := range s.members {
		if m.End.After(t.End) {
			t.End = m.End
		}
		if byTrace[m.TraceID] == nil {
			traces = append(traces, m.TraceID)
		}
		byTrace[m.TraceID] = append(byTrace[m.TraceID], m)
		belongs[m.Ref] = true
	}
	t.Duration = t.End.Sub(t.Start)
	for _, id := range traces {
		t.Lanes = append(t.Lanes, s.lane(id, byTrace[id], belongs))
	}
	s.children = map[Ref][]*Node{}
	for i := range t.Lanes {
		for j := range t.Lanes[i].Spans {
			n := &t.Lanes[i].Spans[j]
			s.nodes[n.Ref] = n
			if n.Depth > 0 {
				parent := Ref{n.TraceID, n.ParentID}
				s.children[parent] = append(s.children[parent], n)
			}
		}
	}
}

func (s *stitcher) lane(id string, spans []*Span, belongs map[Ref]bool) Lane {
	children := map[string][]*Span{}
	var roots []*Span
	for _, span := range spans {
		if belongs[Ref{id, span.ParentID}] && span.ParentID != span.SpanID {
			children[span.ParentID] = append(children[span.ParentID], span)
		} else {
			roots = append(roots, span)
		}
	}
	first := spans[0]
	if len(roots) > 0 {
		first = roots[0]
	}
	l := Lane{
		TraceID: id, Service: first.Service, Name: first.Name, Start: spans[0].Start,
		Offset: spans[0].Start.Sub(s.trail.Start), Spans: make([]Node, 0, len(spans)),
	}
	end := l.Start
	services := map[string]bool{}
	add := func(span *Span, depth int) {
		n := s.node(span, depth)
		services[n.Service] = true
		l.Failed = l.Failed || n.Status == StatusError
		l.Compensation = l.Compensation || n.Compensation
		if span.End.After(end) {
			end = span.End
		}
		l.Spans = append(l.Spans, n)
	}
	// Not recursive, and each span once, whatever a stranger sends.
	type step struct {
		span  *Span
		depth int
	}
	todo := make([]step, 0, len(spans))
	for _, r := range slices.Backward(roots) {
		todo = append(todo, step{r, 0})
	}
	for len(todo) > 0 {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		add(next.span, next.depth)
		for _, c := range slices.Backward(children[next.span.SpanID]) {
			todo = append(todo, step{c, next.depth + 1})
		}
		delete(children, next.span.SpanID)
	}
	for _, span := range spans { // spans that are each other's parents
		if children[span.ParentID] != nil && slices.Contains(children[span.ParentID], span) {
			add(span, 0)
		}
	}
	if len(l.Spans) > 0 {
		l.Delivery = l.Spans[0].Delivery
	}
	l.Duration = end.Sub(l.Start)
	l.Services = slices.Sorted(maps.Keys(services))
	return l
}

func (s *stitcher) node(span *Span, depth int) Node {
	n := Node{
		Span: *span, Depth: depth,
		Offset: span.Start.Sub(s.trail.Start), Duration: span.End.Sub(span.Start),
		Delivery:   span.Attributes.Int(deliveryKey),
		Settlement: span.Attributes.Text(settlementKey),
	}
	n.Span.Links = nil
	if span.Status == StatusError {
		n.ErrorType = span.Attributes.Text(errorTypeKey)
	}
	if span.batch() {
		n.Batch = &Batch{Links: len(span.Links) + span.DroppedLinks, OfOrder: len(s.links(span))}
	}
	n.Compensation = span.Attributes[compensationKey] == true || compensates[event.Type(strings.TrimPrefix(span.Name, "publish "))]
	return n
}

// compensates holds the events that say that something was undone.
var compensates = map[event.Type]bool{event.PaymentRefunded: true, event.InventoryReleased: true}

// links returns a span's links as far as they are about the order.
func (s *stitcher) links(span *Span) []Link {
	if !span.batch() {
		return span.Links
	}
	var mine []Link
	for _, l := range span.Links {
		if l.Attributes.Text(orderIDKey) == s.order.ID {
			mine = append(mine, l)
		}
	}
	return mine
}

// edges makes an edge of every parent and every link.
func (s *stitcher) edges() {
	for _, span := range s.members {
		if span.ParentID != "" {
			e := Edge{Kind: EdgeParent, From: Ref{span.TraceID, span.ParentID}, To: span.Ref}
			if e.Missing = s.nodes[e.From] == nil; e.Missing {
				s.gap(Gap{Kind: GapParent, Ref: e.From, Detail: fmt.Sprintf("The parent of %s %q is not known: it has not ended yet, was not sampled, or is forgotten.", span.Service, span.Name)})
			}
			s.trail.Edges = append(s.trail.Edges, e)
		}
		for _, l := range s.links(span) {
			s.trail.Edges = append(s.trail.Edges, s.link(span, l))
		}
		if span.DroppedLinks > 0 {
			s.gap(Gap{Kind: GapLinksDropped, Ref: span.Ref, Detail: fmt.Sprintf("%s %q has lost %d of its links to a limit (OTEL_SPAN_LINK_COUNT_LIMIT): some may have been the order's.", span.Service, span.Name, span.DroppedLinks)})
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
	// What pkg/tracing makes says which trace it leads to; a stranger's link has no
	// attributes, or says that it is not to be trusted.
	e.External = l.Attributes.Text(linkTraceKey) == "" || l.Attributes[untrustedKey] == true
	if !e.External {
		s.gap(Gap{Kind: GapLinkTarget, Ref: l.Ref, EventType: e.EventType, Detail: fmt.Sprintf("%s %q links a span that "+lost, span.Service, span.Name)})
	}
	return e
}

// retries connects the deliveries of a message to a consumer.
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
	s.retried = map[Ref]Ref{}
	for _, nodes := range deliveries {
		slices.SortStableFunc(nodes, func(a, b *Node) int { return cmp.Compare(a.Delivery, b.Delivery) })
		for i := 1; i < len(nodes); i++ {
			if before, now := nodes[i-1], nodes[i]; before.Delivery < now.Delivery {
				s.retried[now.Ref] = before.Ref
				s.trail.Edges = append(s.trail.Edges, Edge{
					Kind: EdgeRetry, From: before.Ref, To: now.Ref, Wait: max(0, now.Start.Sub(before.End)),
				})
			}
		}
	}
	rank := make(map[Ref]int, len(s.members))
	for i, m := range s.members {
		rank[m.Ref] = i
	}
	kinds := []string{EdgeParent, EdgeRetry, EdgeLink}
	slices.SortStableFunc(s.trail.Edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(rank[a.To], rank[b.To]),
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)))
	})
}

// services draws the map of this order alone.
func (s *stitcher) services() {
	m := mapping{services: map[string]*Service{}, flows: map[EventsFlow]int{}}
	for _, span := range s.members {
		m.span(span)
		for _, l := range s.links(span) {
			m.link(span, l, s.known)
		}
	}
	s.trail.Services = m.done()
}

func sortedKeys(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
