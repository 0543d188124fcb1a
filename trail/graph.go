package trail

import (
	"cmp"
	"slices"
	"strings"
)

// Bounds of the rules that decide which spans belong to a story.
const (
	batchLinks      = 8   // a consumer's span with more links is a batch
	hubConsequences = 100 // a cause with more effects is a hub
)

// graph joins spans by their parents and links. Its vertices are spans, and phantoms:
// ids that are only known as a parent or as the target of a link.
type graph struct {
	key      string
	vertices []vertex
	index    map[Ref]int
	one      []bool // by batch: it belongs to one story; nil before it is needed
}

type vertex struct {
	ref     Ref
	span    *Span // nil for a phantom
	batch   bool
	value   string // of the key: the span's own, else the one that all its links have
	joints  []joint
	effects int  // different children, and spans that link it
	targets int  // different spans that it links
	lacking bool // some of its links are not known
	// described reports that a parent, or a link that instrumentation made, needs the span.
	described bool
}

// joint joins a vertex to its cause or to its effect.
type joint struct {
	to    int
	cause bool   // to is the cause
	link  *Link  // of the effect; nil if the cause is its parent
	value string // of the key: the effect's own, else its link's, else that of the span it links
	cut   bool   // the two ends have different values, or the cause is not trusted
}

func newGraph(spans []Span, key string) *graph {
	g := &graph{key: key, vertices: make([]vertex, 0, len(spans)*9/8), index: make(map[Ref]int, len(spans)*9/8)}
	g.add(spans)
	return g
}

// add adds spans, none of which an earlier call has added.
func (g *graph) add(spans []Span) {
	var added []int
	for i := range spans {
		s := &spans[i]
		at := g.vertex(s.Ref)
		switch v := &g.vertices[at]; {
		case v.span == nil:
			v.span = s
			added = append(added, at)
		case later(s, v.span):
			v.span = s
		}
	}
	for _, i := range added {
		v := &g.vertices[i]
		v.batch, v.value = v.span.batch(), v.span.value(g.key)
		g.revise(i)
	}
	for _, i := range added {
		s := g.vertices[i].span
		if s.ParentID != "" && s.ParentID != s.SpanID {
			g.join(g.vertex(Ref{s.TraceID, s.ParentID}), i, nil)
		}
		g.vertices[i].lacking = s.DroppedLinks > 0
		seen := map[Ref]bool{}
		for j := range s.Links {
			l := &s.Links[j]
			if !l.valid() {
				g.vertices[i].lacking = true
				continue
			}
			if l.Ref == s.Ref {
				continue
			}
			if !seen[l.Ref] && !l.untrusted() {
				seen[l.Ref] = true
				g.vertices[i].targets++
			}
			g.join(g.vertex(l.Ref), i, l)
		}
		causes := map[int]bool{} // a child may also link its parent
		for _, j := range g.vertices[i].joints {
			if j.cause && !j.cut && !causes[j.to] {
				causes[j.to] = true
				g.vertices[j.to].effects++
			}
		}
	}
	g.one = nil
}

// later chooses one of two versions of a span, whichever arrived first.
func later(a, b *Span) bool {
	return cmp.Or(a.End.Compare(b.End), len(a.Links)-len(b.Links), len(a.Attributes)-len(b.Attributes)) > 0
}

func (g *graph) vertex(r Ref) int {
	i, ok := g.index[r]
	if !ok {
		i = len(g.vertices)
		g.index[r] = i
		g.vertices = append(g.vertices, vertex{ref: r})
	}
	return i
}

// join joins a cause to its effect, by a link or, if it is nil, as a parent.
func (g *graph) join(cause, effect int, l *Link) {
	from, to := &g.vertices[cause], &g.vertices[effect]
	j := g.joint(from, to, l)
	from.described = from.described || l == nil || to.span.describes(l)
	j.to = effect
	from.joints = append(from.joints, j)
	j.to, j.cause = cause, true
	to.joints = append(to.joints, j)
}

// joint returns what joins two vertices, without its direction.
func (g *graph) joint(from, to *vertex, l *Link) joint {
	j := joint{link: l, value: to.value}
	if l != nil && to.span.Attributes.Text(g.key) == "" {
		j.value = l.Attributes.Text(g.key)
	}
	j.cut = j.value != "" && from.value != "" && j.value != from.value || l != nil && l.untrusted()
	if l != nil && j.value == "" {
		j.value = from.value
	}
	return j
}

// revise brings the joints of a vertex, which was a phantom until now, up to date with its
// value.
func (g *graph) revise(i int) {
	v := &g.vertices[i]
	if v.value == "" {
		return
	}
	effects := map[int]bool{}
	for k := range v.joints { // all of them lead to effects
		effect := &g.vertices[v.joints[k].to]
		now := g.joint(v, effect, v.joints[k].link)
		for _, j := range []*joint{&v.joints[k], effect.back(i, now.link)} {
			j.value, j.cut = now.value, now.cut
		}
		if !now.cut {
			effects[v.joints[k].to] = true
		}
	}
	v.effects = len(effects)
}

// back returns the joint of a vertex that leads to its cause by a link.
func (v *vertex) back(cause int, l *Link) *joint {
	return &v.joints[slices.IndexFunc(v.joints, func(j joint) bool { return j.cause && j.to == cause && j.link == l })]
}

// boundary reports whether a vertex is a batch with messages of several stories. Then it
// belongs to none. A batch may depend on another: its links meet only there.
func (g *graph) boundary(i int) bool {
	if !g.vertices[i].batch {
		return false
	}
	if g.one == nil {
		g.one = make([]bool, len(g.vertices))
		g.unite()
	}
	return !g.one[i]
}

// unite finds the batches that belong to one story: it unites vertices into stories.
func (g *graph) unite() {
	of := make([]int, len(g.vertices))
	for i := range of {
		of[i] = i
	}
	story := func(i int) int {
		for of[i] != i {
			of[i] = of[of[i]]
			i = of[i]
		}
		return i
	}
	var batches []int
	for i := range g.vertices {
		v := &g.vertices[i]
		if v.batch {
			batches = append(batches, i)
			parts := map[string]int{}
			for _, j := range v.joints {
				if g.vertices[j.to].batch { // it may belong to several stories itself
					continue
				}
				if first, ok := parts[j.value]; ok && !j.cut && j.value != "" {
					of[story(j.to)] = story(first)
				} else if !j.cut {
					parts[j.value] = j.to
				}
			}
			continue
		}
		for _, j := range v.joints {
			if j.cause && !j.cut && !g.vertices[j.to].batch {
				of[story(i)] = story(j.to)
			}
		}
	}
	for again := true; again; {
		again = false
		for _, b := range batches {
			v := &g.vertices[b]
			stories, values := map[int]bool{}, map[string]bool{"": true}
			for _, j := range v.joints {
				if j.cause && j.link != nil && !j.cut {
					stories[story(j.to)], values[j.value] = true, true
				}
			}
			if g.one[b] || v.value == "" && (len(stories) != 1 || len(values) > 2 || v.lacking) {
				continue
			}
			g.one[b], again = true, true
			for _, j := range v.joints {
				if to := &g.vertices[j.to]; !j.cut && (!to.batch || g.one[j.to]) {
					of[story(j.to)] = story(b)
				}
			}
		}
	}
}

// Attributes of messaging that decide what a span is.
var (
	operationKeys = []string{"messaging.operation.type", "messaging.operation"}
	deliveryKeys  = []string{"messaging.nats.message.delivery_count", "messaging.servicebus.message.delivery_count", "messaging.gcp_pubsub.message.delivery_attempt"}
	groupKeys     = []string{"messaging.consumer.group.name", "messaging.destination.subscription.name", "messaging.kafka.consumer.group"}
)

// first returns the first of some attributes that is there.
func (a Attributes) first(keys []string) string {
	i := slices.IndexFunc(keys, func(key string) bool { return a.Text(key) != "" })
	if i < 0 {
		return ""
	}
	return a.Text(keys[i])
}

// batch reports whether a span receives or processes several messages.
func (s *Span) batch() bool {
	switch s.Attributes.first(operationKeys) {
	case "receive", "process", "deliver":
	case "":
		if s.Kind != "consumer" {
			return false
		}
	default:
		return false
	}
	return s.Attributes.number(batchCountKey) >= 2 || len(s.Links) > batchLinks || s.DroppedLinks > 0
}

// value returns the value of a key: a span's own, else the one that all its links have.
func (s *Span) value(key string) string {
	values := s.values(key)
	if key == "" || len(values) == 0 || s.Attributes.Text(key) == "" && (len(values) != len(s.Links) || s.DroppedLinks > 0) {
		return ""
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return ""
		}
	}
	return values[0]
}

// untrusted reports a link to the span of a caller that is not trusted.
func (l *Link) untrusted() bool { return l.Attributes[untrustedKey] == true }

// describes reports whether instrumentation of messages made a link of the span. Other
// links lead to outside callers, whose spans may well be stored elsewhere.
func (s *Span) describes(l *Link) bool {
	if l.untrusted() {
		return false
	}
	for key := range l.Attributes {
		if strings.HasPrefix(key, "link.") || strings.HasPrefix(key, "messaging.") {
			return true
		}
	}
	return s.Attributes.first(operationKeys) != ""
}

// delivery returns the delivery number of the message of a consumer's span, 0 if it has none.
func (s *Span) delivery() int {
	for _, key := range deliveryKeys {
		if n := s.Attributes.number(key); n > 0 {
			return n
		}
	}
	return 0
}
