package trail

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Attributes that a story is read from.
const (
	relationshipKey = "link.relationship"
	linkTraceKey    = "link.trace_id"
	linkEventKey    = "link.event_type"
	untrustedKey    = "link.untrusted"
	errorTypeKey    = "error.type"
	destinationKey  = "messaging.destination.name"
	batchCountKey   = "messaging.batch.message_count"
	settlementKey   = "messaging.nats.message.settlement"
	refusedKey      = "call.refused"
)

// DefaultMaxSpans is how many spans a story has at most.
const DefaultMaxSpans = 20_000

// Options select a story's spans.
type Options struct {
	// Key is an attribute whose different values keep stories apart, such as order.id. ""
	// means that the structure alone decides.
	Key string
	// Value is the value of Key that the story's spans have. All spans that have it belong
	// to the story. The default is the value of the start.
	Value string
	// MaxSpans is how many spans the story has at most: those that the fewest parents and
	// links separate from the start. 0 means [DefaultMaxSpans].
	MaxSpans int
	// Until reports whether a span concludes the story: the critical path ends at the
	// first such span that did not fail. Without one, and if Until is nil, it ends at the
	// span that ended last, batches of several stories excepted.
	Until func(*Span) bool
	// Publisher returns the service that publishes an event type. The service map needs
	// it where the publisher's span is missing; if nil, those links are left out.
	Publisher func(eventType string) string
}

// Stitch makes a story of spans, in any order. It starts at spans, or at all spans of
// traces, which have no SpanID, and follows parents and links both ways:
//
//   - A batch, which is a consumer's span with several messages, belongs to the story if
//     all spans that it links do. Otherwise it is shown without its children.
//   - A cause with more than 100 effects that is reached from one of them is shown without
//     the others.
//   - A link that is not trusted is not followed, nor is one between different values of
//     the key.
//
// If the start is a batch of several stories, Stories lists them.
func Stitch(found Spans, o Options, start ...Ref) *Story {
	g := newGraph(found.Spans, o.Key)
	return g.stitch(found, o, g.choose(o, start))
}

// choice is what a start leads to.
type choice struct {
	stories []*closure // one, unless the start is a batch of several
	batch   int        // the batch; -1 if there is one story
}

// choose returns the story of a start, or the stories that meet there.
func (g *graph) choose(o Options, start []Ref) choice {
	var from []int
	values := map[string]bool{}
	for _, r := range start {
		if i, ok := g.index[r]; ok {
			if o.Value == "" && g.boundary(i) {
				return g.meet(i)
			}
			from = append(from, i)
			values[g.vertices[i].value] = true
		}
	}
	for i := range g.vertices {
		v := &g.vertices[i]
		of := slices.Contains(start, Ref{TraceID: v.ref.TraceID}) && v.span != nil
		if of && v.batch && v.span.ParentID == "" && o.Value == "" && g.boundary(i) {
			return g.meet(i)
		}
		if of && !g.boundary(i) || o.Value != "" && v.value == o.Value {
			from = append(from, i)
			values[v.value] = true
		}
		for _, j := range v.joints {
			if o.Value != "" && v.batch && v.value == "" && j.cause && j.link != nil && j.value == o.Value {
				from = append(from, j.to) // a message of a batch
			}
		}
	}
	value := o.Value
	if delete(values, ""); value == "" && len(values) == 1 {
		value = slices.Collect(maps.Keys(values))[0]
	}
	return choice{[]*closure{g.closure(value, from...)}, -1}
}

// meet returns the stories that meet in a batch.
func (g *graph) meet(batch int) choice {
	c := choice{batch: batch}
	g.addStories(&c, batchValue{batch: batch}, map[batchValue]bool{})
	return c
}

// addStories adds the stories of a batch's messages, all or those with a value. Of a message
// that another batch of several stories has sent, it adds the stories that meet there.
func (g *graph) addStories(c *choice, from batchValue, seen map[batchValue]bool) {
	if seen[from] {
		return
	}
	seen[from] = true
	for _, j := range g.vertices[from.batch].joints {
		known := func(s *closure) bool { return s.member[j.to] }
		switch {
		case !j.cause || j.link == nil || j.cut || from.value != "" && j.value != from.value:
		case g.boundary(j.to):
			g.addStories(c, batchValue{j.to, j.value}, seen)
		case len(c.stories) < meetings && !slices.ContainsFunc(c.stories, known):
			c.stories = append(c.stories, g.closure(j.value, j.to))
		}
	}
}

// meetings is how many stories of one batch are listed.
const meetings = 100

type stitcher struct {
	Options
	*closure
	story    *Story
	members  []*Span       // the story's spans, by start
	nodes    map[Ref]*Node // the story's spans, in their lanes
	children map[Ref][]*Node
	retried  map[Ref]*Node // by the later delivery: the one before
}

func (g *graph) stitch(found Spans, o Options, c choice) *Story {
	s := &stitcher{
		Options: o, nodes: map[Ref]*Node{},
		story: &Story{Lanes: []Lane{}, Edges: []Edge{}, Gaps: []Gap{}, Complete: true},
	}
	if c.batch >= 0 {
		s.closure = g.closure("") // of the batch alone
		s.leaf[c.batch] = true
		s.list(c)
	} else {
		s.closure = c.stories[0]
	}
	s.gather(cmp.Or(o.MaxSpans, DefaultMaxSpans))
	if found.Truncated {
		s.story.AddGap(Gap{Kind: GapTruncated, Detail: "The source has more spans than it returned."})
	}
	if found.Partial != "" {
		s.story.AddGap(Gap{Kind: GapSearch, Detail: found.Partial})
	}
	s.hubs()
	return s.assemble()
}

// assemble makes the story of its members.
func (s *stitcher) assemble() *Story {
	s.lanes()
	s.retries()
	s.edges()
	s.story.CriticalPath = s.criticalPath()
	s.story.Services = serviceMap(s.members, s.links, s.span, s.Publisher)
	return s.story
}

// AddGap adds a gap.
func (s *Story) AddGap(g Gap) {
	s.Gaps = append(s.Gaps, g)
	s.Complete = false
	s.Pending = s.Pending || g.Pending
}

// list lists the stories that meet in a batch.
func (s *stitcher) list(c choice) {
	batch := &s.vertices[c.batch]
	if batch.targets == 0 {
		s.story.AddGap(Gap{Kind: GapLinksDropped, Ref: batch.ref, Detail: fmt.Sprintf("%s %q handles several messages and links none of them: what it did for each is not shown.", batch.span.Service, batch.span.Name)})
	}
	if len(c.stories) == meetings {
		s.story.AddGap(Gap{Kind: GapTruncated, Ref: batch.ref, Detail: fmt.Sprintf("Of the stories of its %d messages, the first %d are listed.", batch.targets, meetings)})
	}
	for _, story := range c.stories {
		first := &s.vertices[story.first]
		m := Meeting{Ref: first.ref, Value: story.value}
		if first.span != nil {
			m.Service, m.Name = first.span.Service, first.span.Name
		}
		for _, j := range batch.joints {
			if j.cause && j.link != nil && (story.member[j.to] || story.leaf[j.to] && !story.foreign(j.value)) {
				m.Links++
			}
		}
		s.story.Stories = append(s.story.Stories, m)
	}
}

// span returns a span, nil if it is not known.
func (s *stitcher) span(r Ref) *Span {
	if i, ok := s.index[r]; ok {
		return s.vertices[i].span
	}
	return nil
}

// border reports whether a span is a batch that belongs to other stories, too.
func (s *stitcher) border(span *Span) bool {
	i, ok := s.index[span.Ref]
	return ok && s.leaf[i]
}

// links returns the links of a span that belong to the story.
func (s *stitcher) links(span *Span) []Link {
	if !s.border(span) || s.story.Stories != nil {
		return span.Links
	}
	var own []Link
	for _, l := range span.Links {
		if i, ok := s.index[l.Ref]; ok && s.member[i] {
			own = append(own, l)
		}
	}
	return own
}

// gather finds the spans that belong to the story, up to a number.
func (s *stitcher) gather(most int) {
	var chosen []int
	for i := range s.vertices {
		if s.vertices[i].span != nil && (s.member[i] || s.leaf[i]) {
			chosen = append(chosen, i)
		}
	}
	if all := len(chosen); all > most {
		distance := s.distances()
		slices.SortFunc(chosen, func(a, b int) int {
			return cmp.Or(cmp.Compare(distance[a], distance[b]), compareSpans(s.vertices[a].span, s.vertices[b].span))
		})
		chosen = chosen[:most]
		s.story.AddGap(Gap{Kind: GapTruncated, Detail: fmt.Sprintf("The story has %d more spans than the %d shown here, which are the nearest.", all-most, most)})
	}
	for _, i := range chosen {
		s.members = append(s.members, s.vertices[i].span)
	}
	slices.SortFunc(s.members, compareSpans)
}

// compareSpans compares by start.
func compareSpans(a, b *Span) int {
	return cmp.Or(a.Start.Compare(b.Start), compareRefs(a.Ref, b.Ref))
}

// hubs adds a gap for each hub whose other consequences are left out.
func (s *stitcher) hubs() {
	for i, held := range s.held {
		if !held {
			continue
		}
		others := map[int]bool{}
		for _, j := range s.vertices[i].joints {
			if !j.cause && !j.cut && !s.member[j.to] && !s.leaf[j.to] && !s.foreign(j.value) {
				others[j.to] = true
			}
		}
		if v := &s.vertices[i]; len(others) > 0 {
			what := "A span that is missing"
			if v.span != nil {
				what = fmt.Sprintf("%s %q", v.span.Service, v.span.Name)
			}
			s.story.AddGap(Gap{Kind: GapHub, Ref: v.ref, Detail: fmt.Sprintf("%s has %d other consequences, which are not shown: its own story has them.", what, len(others))})
		}
	}
}
