// Package trailgen generates linked applications from seeds. It knows the expected stories
// from how it made them: each span is labelled with its story when it is added, and no rule
// of package trail is applied.
package trailgen

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/trail"
)

// Key is the correlation key of the worlds that have one.
const Key = "order.id"

// World is what a few applications recorded.
type World struct {
	Spans []trail.Span
	Cases []Case
}

// Case is a start and its expected story.
type Case struct {
	Name    string
	Options trail.Options
	Start   trail.Ref
	Want    Story
}

// Story is what is expected of a story, sorted. Borders are not among the Spans.
type Story struct {
	Spans   []trail.Ref
	Borders []Border
	Retries [][2]trail.Ref // a delivery and the next
	Gaps    []string       // kind and span id
	Meet    int            // stories that meet in the start
}

// Border is a batch at the border of a story, with the number of spans there that it links.
type Border struct {
	trail.Ref
	Own int
}

type span struct {
	trail.Span
	story  int
	branch int // of a hub; 0 above it
	cause  *span
	style  int
}

// Correlation styles.
const (
	ours      = iota // attributes of package tracing
	current          // attributes of messages, links without any
	older            // the names before, an id of the message on the link
	plain            // no attribute at all
	asParents        // the consumer is a child
	both             // the consumer is a child, and links its parent
	styles
)

type builder struct {
	*rand.Rand
	spans   []*span
	borders map[*span]map[int]int // batches: by story, the links
	retries map[int][][2]trail.Ref
	gaps    map[int][]string
	keyed   bool
	clock   time.Time
}

// New returns the world of a seed.
func New(seed uint64) World {
	b := &builder{
		Rand: rand.New(rand.NewPCG(seed, 16)), borders: map[*span]map[int]int{}, retries: map[int][][2]trail.Ref{}, gaps: map[int][]string{},
		keyed: seed%2 == 0, clock: time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC),
	}
	if seed%10 == 9 {
		return b.hub()
	}
	stories := 2 + b.IntN(3)
	for s := range stories {
		b.grow(s, b.root(s), 5+b.IntN(25))
		b.decorate(s)
	}
	b.cross(stories)
	for range b.IntN(4) {
		b.batch(b.Perm(stories)[:1+b.IntN(stories)])
	}
	w := World{}
	for s := range stories {
		w.Cases = append(w.Cases, b.cases(s)...)
	}
	for border, of := range b.borders {
		w.Cases = append(w.Cases, Case{"a border", b.options(), border.Ref, Story{Borders: []Border{{border.Ref, 0}}, Meet: linked(of), Gaps: b.dropped(border)}})
		for story := range of {
			if story < 0 {
				w.Cases = append(w.Cases, Case{"cut off", b.options(), b.of(story)[0].Ref, b.want(story, func(*span) bool { return true })})
			}
		}
	}
	slices.SortFunc(w.Cases, func(a, b Case) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Start.SpanID, b.Start.SpanID))
	})
	w.Cases = append(w.Cases, b.lose(stories)...)
	for _, s := range b.spans {
		w.Spans = append(w.Spans, s.Span)
	}
	b.Shuffle(len(w.Spans), func(i, j int) { w.Spans[i], w.Spans[j] = w.Spans[j], w.Spans[i] })
	return w
}

func linked(of map[int]int) (n int) {
	for _, links := range of {
		if links > 0 {
			n++
		}
	}
	return n
}

func (b *builder) options() trail.Options {
	if b.keyed {
		return trail.Options{Key: Key}
	}
	return trail.Options{}
}

// span adds a span below a parent, or in a trace of its own.
func (b *builder) span(story int, parent *span, kind string) *span {
	// Clocks disagree by a second.
	b.clock = b.clock.Add(time.Duration(b.IntN(20)) * time.Millisecond)
	start := b.clock.Add(time.Duration(b.IntN(2000)-1000) * time.Millisecond)
	s := &span{story: story, cause: parent, Span: trail.Span{
		Ref:  trail.Ref{TraceID: fmt.Sprintf("%016x%016x", b.Uint64(), b.Uint64()), SpanID: fmt.Sprintf("%016x", b.Uint64())},
		Name: "work", Service: fmt.Sprint("service ", b.IntN(5)), Kind: kind, Status: trail.StatusUnset,
		Start: start, End: start.Add(time.Duration(b.IntN(30)) * time.Millisecond), Attributes: trail.Attributes{},
	}}
	if parent != nil {
		s.TraceID, s.ParentID, s.Service, s.branch = parent.TraceID, parent.SpanID, parent.Service, parent.branch
	}
	if b.keyed && (parent == nil || b.IntN(4) > 0) {
		s.Attributes[Key] = b.value(story)
	}
	b.spans = append(b.spans, s)
	return s
}

func (b *builder) value(story int) string { return fmt.Sprint("order ", story) }

// link adds a link in the style of the span that has it.
func (b *builder) link(from, to *span) {
	l := trail.Link{Ref: to.Ref, Attributes: trail.Attributes{}}
	switch from.style {
	case ours, both:
		l.Attributes["link.trace_id"], l.Attributes["link.relationship"] = to.TraceID, []string{"triggered_by", "cancels", "redrive_of", "creation"}[b.IntN(4)]
	case older:
		l.Attributes["messaging.message.id"] = "7"
	}
	from.Links = append(from.Links, l)
}

// astray adds a link without ids, in the form of the SDK or in that of OTLP.
func (b *builder) astray(from *span) {
	to := []trail.Ref{{}, {TraceID: strings.Repeat("0", 32), SpanID: strings.Repeat("0", 16)}}[b.IntN(2)]
	from.Links = append(from.Links, trail.Link{Ref: to, Attributes: trail.Attributes{"messaging.message.id": "7"}})
}

// consume adds a span that consumes what another published.
func (b *builder) consume(from *span, style int) *span {
	var parent *span
	if style == asParents || style == both {
		parent = from
	}
	s := b.span(from.story, parent, "consumer")
	s.Service, s.cause, s.style, s.branch = fmt.Sprint("service ", b.IntN(5)), from, style, from.branch
	switch style {
	case ours, current, asParents, both:
		s.Attributes["messaging.operation.type"] = "process"
	case older:
		s.Attributes["messaging.operation"] = "process"
	case plain:
		s.Kind = "internal"
	}
	if style != asParents {
		b.link(s, from)
		if style == ours {
			s.Links[0].Attributes["link.relationship"] = "triggered_by"
		}
	}
	if b.IntN(8) == 0 {
		b.astray(s)
	}
	return s
}

// root adds the first span of a story. Some have an outside caller, whose span is not
// stored, or is not trusted.
func (b *builder) root(story int) *span {
	s := b.span(story, nil, "server")
	outside := trail.Ref{TraceID: fmt.Sprintf("%032x", b.Uint64()), SpanID: fmt.Sprintf("%016x", b.Uint64())}
	switch b.IntN(5) {
	case 0:
		s.Links = append(s.Links, trail.Link{Ref: outside})
	case 3:
		s.Links = append(s.Links, trail.Link{Ref: outside, Attributes: trail.Attributes{"link.relationship": "cancels"}})
		b.gaps[story] = append(b.gaps[story], "missing "+outside.SpanID)
	case 1:
		s.Links = append(s.Links, trail.Link{Ref: outside, Attributes: trail.Attributes{"link.untrusted": true, "link.trace_id": outside.TraceID}})
	case 2:
		s.ParentID = outside.SpanID // it was not sampled
		b.gaps[story] = append(b.gaps[story], "missing "+outside.SpanID)
	}
	return s
}

// grow adds spans below those of a story, from one on.
func (b *builder) grow(story int, from *span, n int) {
	mine := []*span{from}
	for range n {
		at := mine[b.IntN(len(mine))]
		if b.IntN(3) == 0 {
			at = mine[len(mine)-1] // chains
		}
		switch b.IntN(5) {
		case 0, 1:
			mine = append(mine, b.span(story, at, []string{"internal", "client"}[b.IntN(2)]))
		case 2: // fan-out
			p := b.span(story, at, "producer")
			p.Attributes["messaging.operation.type"] = "send"
			if b.IntN(2) == 0 {
				p.Attributes["messaging.batch.message_count"] = int64(20)
			}
			mine = append(mine, p)
			for range 1 + b.IntN(3) {
				mine = append(mine, b.consume(p, b.IntN(styles)))
			}
		case 3:
			mine = append(mine, b.consume(at, b.IntN(styles)))
		case 4:
			mine = append(mine, b.deliveries(at)...)
		}
	}
}

// deliveries adds deliveries of a message: retries of one consumer, or copies.
func (b *builder) deliveries(at *span) (all []*span) {
	kind, style := b.IntN(3), []int{ours, current, older, asParents, both}[b.IntN(5)]
	count := []string{"messaging.nats.message.delivery_count", "messaging.servicebus.message.delivery_count"}[b.IntN(2)]
	consumer := fmt.Sprint("consumer ", len(b.spans))
	for i := range 2 + b.IntN(2) {
		s := b.consume(at, style)
		s.Service, s.Attributes["messaging.consumer.group.name"] = consumer, "group"
		s.Attributes[count] = int64(i + 1)
		switch {
		case kind == 1: // copies, to replicas without a group
			s.Attributes[count] = int64(1)
		case kind == 2: // other groups
			s.Attributes["messaging.consumer.group.name"] = fmt.Sprint("group ", i)
		case i > 0:
			b.retries[at.story] = append(b.retries[at.story], [2]trail.Ref{all[i-1].Ref, s.Ref})
		}
		all = append(all, s)
	}
	return all
}

func (b *builder) of(story int) (all []*span) {
	for _, s := range b.spans {
		if s.story == story && b.borders[s] == nil {
			all = append(all, s)
		}
	}
	return all
}

func (b *builder) one(story int) *span {
	all := b.of(story)
	return all[b.IntN(len(all))]
}

// decorate adds fan-ins and circles of links to a story.
func (b *builder) decorate(story int) {
	for range b.IntN(4) {
		from, to := b.one(story), b.one(story)
		if len(from.Links) < 8 && from.Attributes["messaging.nats.message.delivery_count"] == nil && from.Attributes["messaging.servicebus.message.delivery_count"] == nil {
			b.link(from, to)
		}
	}
}
