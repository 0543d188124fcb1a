package view

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/trail"
)

// Waterfall is the layout of a trail: a lane for each trace, grouped by service, and a
// row for each span. Positions are percentages, so that the picture fits any size.
type Waterfall struct {
	Groups []Group
	Bars   []Bar
	Arrows []Arrow
	Lines  []string // the tops of the lanes
	Ticks  []Mark
	Cuts   []Mark
	Rows   int // with the row of the axis
	Hidden int // spans beyond rowsShown
	// MoreArrows are those beyond arrowsShown.
	MoreArrows int
	// Windows are the parts of the story that have pages of their own, if it has more than
	// rowsShown spans.
	Windows []Window

	class func(service string) string
}

// Window is a part of the rows.
type Window struct{ From, To int }

// Group has the lanes of a service.
type Group struct {
	Service string
	Class   string
	Lanes   []LaneRows
	Hidden  int // spans that are not shown; they share one row
	From    int // the number of the first of them
	first   time.Duration
	last    time.Duration
	row     int // of all of them
}

// LaneRows has the rows of a trace.
type LaneRows struct {
	trail.Lane
	Rows []Row
}

// Row shows a span.
type Row struct {
	trail.Node
	Class  string
	Other  string // the service, if it is not the group's
	Indent int
	Brief  bool // the attributes are left out
	Badges []Badge
	Causes []Tie // the spans that this one links
	Led    []Tie // the spans that link this one
	// The numbers of those that are left out, because there are many.
	MoreCauses, MoreLed        int
	MoreAttributes, MoreEvents int
}

// Badge marks a property of a span, such as a failure.
type Badge struct{ Kind, Text string }

// Tie is an edge as a row shows it: the span at the other end, and the relationship.
type Tie struct {
	Ref          trail.Ref
	Label        string // "service: name" of the span at the other end
	Relationship string
	Attributes   trail.Attributes // of a link
	Wait         time.Duration
	Missing      bool
	Elsewhere    bool // the span is known, and belongs to another story
	External     bool
}

// Bar is the drawing of a span.
type Bar struct {
	SpanID, Class string
	X, Width, Y   string
}

// Arrow is the drawing of an edge: vertical from the span From to the row of To, then
// horizontal to the start of To. The arrows of one span share their vertical part.
type Arrow struct {
	From, To, Class string
	X1, Y1, X2, Y2  string
}

// newWaterfall returns the layout of a trail.
func newWaterfall(t *trail.Story, o Options) *Waterfall {
	w := &Waterfall{class: o.Class}
	groups := grouped(t)
	shown := w.choose(groups, o)

	// The rows of the spans, and the moments for the time axis, which covers all spans.
	places := map[trail.Ref]*place{}
	var moments []time.Duration
	row, number := 1, 0 // below the axis
	var starts []int
	kept, folded := groups[:0], 0
	rest := Group{Service: "other services"}
	for gi := range groups {
		g := &groups[gi]
		g.Class = o.Class(g.Service)
		row++ // the heading of the group
		var lanes []LaneRows
		for _, l := range g.Lanes {
			for _, n := range l.Spans {
				number++
				moments = append(moments, max(n.Offset, 0), end(n))
				if shown != nil && !shown[n.Ref] {
					g.hide(n, number)
					continue
				}
				if len(l.Rows) == 0 {
					starts = append(starts, row)
				}
				places[n.Ref] = &place{row: row, node: n}
				r := Row{Node: n, Class: o.Class(n.Service), Indent: min(n.Depth, 16)}
				if n.Service != g.Service {
					r.Other = n.Service
				}
				l.Rows = append(l.Rows, r)
				row++
			}
			if len(l.Rows) > 0 {
				lanes = append(lanes, l)
			}
		}
		w.Hidden += g.Hidden
		if g.Lanes = lanes; len(lanes) == 0 {
			if folded++; folded > foldedShown {
				row-- // it has no heading
				rest.fold(*g)
				continue
			}
		}
		if g.Hidden > 0 {
			starts = append(starts, row)
			g.row = row
			row++
		}
		kept = append(kept, *g)
	}
	if rest.Hidden > 0 {
		rest.row = row + 1 // below the heading
		starts = append(starts, rest.row)
		row += 2
		kept = append(kept, rest)
	}
	w.Groups, w.Rows = kept, row
	scale := newTimescale(moments)
	w.Ticks, w.Cuts = scale.marks()
	for _, s := range starts {
		w.Lines = append(w.Lines, w.y(float64(s)))
	}
	w.tie(t.Edges, places, o.Span)
	w.draw(scale, t.Edges, places)
	w.limit(o.Span)
	return w
}

// hide counts a span that is not shown.
func (g *Group) hide(n trail.Node, number int) {
	if g.Hidden == 0 {
		g.From, g.first, g.last = number, n.Offset, n.Offset
	}
	g.Hidden++
	g.first, g.last = min(g.first, n.Offset), max(g.last, end(n))
}

// end returns when a span ended, which is not before its start. Clocks may say anything: the
// sum does not overflow.
func end(n trail.Node) time.Duration {
	start := max(n.Offset, 0)
	return start + min(max(n.Duration, 0), math.MaxInt64-start)
}

// fold adds the hidden spans of a group, which comes later.
func (g *Group) fold(other Group) {
	if g.Hidden == 0 {
		g.From, g.first, g.last = other.From, other.first, other.last
	}
	g.Hidden += other.Hidden
	g.first, g.last = min(g.first, other.first), max(g.last, other.last)
}

// place is the row of a span.
type place struct {
	row  int
	node trail.Node
}

// grouped groups the lanes by service. It sorts the services by the number of steps from
// the start of an order, so that all orders look alike. Services that handle only batches
// come last.
func grouped(t *trail.Story) (groups []Group) {
	at := map[string]int{}
	batches := map[string]bool{}
	for _, l := range t.Lanes {
		i, ok := at[l.Service]
		if !ok {
			i = len(groups)
			at[l.Service] = i
			groups = append(groups, Group{Service: l.Service})
			batches[l.Service] = true
		}
		groups[i].Lanes = append(groups[i].Lanes, LaneRows{Lane: l})
		if len(l.Spans) == 0 || l.Spans[0].Batch == nil {
			batches[l.Service] = false
		}
	}
	step := map[string]int{}
	for _, s := range t.Services.Services {
		step[s.Name] = s.Step
	}
	for name, only := range batches {
		if only {
			step[name] = len(groups) + 1
		}
	}
	slices.SortStableFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(step[a.Service], step[b.Service]), cmp.Compare(a.Service, b.Service))
	})
	return groups
}

// asynchronous reports whether an edge leads from a parent to a child that it does not wait
// for, such as a consumer. Only these parents have arrows.
func asynchronous(e trail.Edge, from, to trail.Node) bool {
	return e.Kind == trail.EdgeParent && (from.Service != to.Service || to.Offset > end(from))
}

// draw computes the bars and arrows.
func (w *Waterfall) draw(scale timescale, edges []trail.Edge, places map[trail.Ref]*place) {
	for _, p := range slices.SortedFunc(maps.Values(places), func(a, b *place) int { return cmp.Compare(a.row, b.row) }) {
		from, to := scale.at(p.node.Offset), scale.at(end(p.node))
		class := "bar " + w.class(p.node.Service)
		if p.node.Critical {
			class += " critical"
		}
		if p.node.Status == trail.StatusError || p.node.ErrorType != "" {
			class += " failed"
		}
		if p.node.Compensation {
			class += " undo"
		}
		w.Bars = append(w.Bars, Bar{p.node.SpanID, class, percent(from), percent(to - from), w.y(float64(p.row) + 0.5)})
	}
	for _, g := range w.Groups {
		if g.Hidden > 0 {
			from, to := scale.at(g.first), scale.at(g.last)
			w.Bars = append(w.Bars, Bar{Class: "bar fold " + g.Class, X: percent(from), Width: percent(max(to-from, 0)), Y: w.y(float64(g.row) + 0.5)})
		}
	}
	// The arrows of a span leave it at its end, or at the start of the first span that it
	// caused if that is earlier: an arrow never points back in time.
	way := map[trail.Ref]float64{}
	drawn := func(e trail.Edge) bool {
		from, to := places[e.From], places[e.To]
		return from != nil && to != nil && (e.Kind != trail.EdgeParent || asynchronous(e, from.node, to.node))
	}
	for _, e := range edges {
		if !drawn(e) {
			continue
		}
		from, to := places[e.From].node, places[e.To].node
		x, ok := way[e.From]
		if !ok {
			x = scale.at(end(from))
		}
		way[e.From] = min(x, scale.at(to.Offset))
	}
	for _, e := range edges {
		if !drawn(e) {
			continue
		}
		from, to := places[e.From], places[e.To]
		class := "arrow " + e.Kind
		if e.Kind == trail.EdgeLink {
			class += " " + w.class(from.node.Service)
		}
		switch {
		case to.node.Batch != nil:
			class += " batch"
		case from.node.Critical && to.node.Critical && e.Kind != trail.EdgeRetry:
			class += " critical"
		}
		w.Arrows = append(w.Arrows, Arrow{
			From: e.From.SpanID, To: e.To.SpanID, Class: class,
			X1: percent(way[e.From]), Y1: w.y(float64(from.row) + 0.5), X2: percent(scale.at(to.node.Offset)), Y2: w.y(float64(to.row) + 0.5),
		})
	}
	// Arrows of the critical path are drawn last, above the others.
	slices.SortStableFunc(w.Arrows, func(a, b Arrow) int { return cmp.Compare(rank(a.Class), rank(b.Class)) })
	w.MoreArrows = max(0, len(w.Arrows)-arrowsShown)
	w.Arrows = w.Arrows[w.MoreArrows:]
}

func rank(class string) int {
	switch {
	case strings.HasSuffix(class, " batch"):
		return 0
	case strings.HasSuffix(class, " critical"):
		return 2
	}
	return 1
}

func (w *Waterfall) y(row float64) string { return percent(row / float64(w.Rows) * 100) }
