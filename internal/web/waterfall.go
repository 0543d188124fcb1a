package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/trail"
)

// rowsShown is the largest number of rows. More would not be readable.
const rowsShown = 400

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
}

// Group has the lanes of a service.
type Group struct {
	Service string
	Lanes   []LaneRows
}

// LaneRows has the rows of a trace.
type LaneRows struct {
	trail.Lane
	Rows []Row
}

// Row shows a span.
type Row struct {
	trail.Node
	Badges []Badge
	Causes []Tie // the spans that this one links
	Led    []Tie // the spans that link this one
}

// Badge marks a property of a span, such as a failure.
type Badge struct{ Kind, Text string }

// Tie is an edge as a row shows it: the span at the other end, and the relationship.
type Tie struct {
	Ref          trail.Ref
	Label        string // "service: name" of the span at the other end
	Relationship string
	EventType    string
	Wait         time.Duration
	Kind         string
	Missing      bool
	External     bool
}

// Bar is the drawing of a span.
type Bar struct {
	SpanID, Service, Class string
	X, Width, Y            string
}

// Arrow is the drawing of an edge: vertical from the span From to the row of To, then
// horizontal to the start of To. The arrows of one span share their vertical part.
type Arrow struct {
	From, To, Class string
	X1, Y1, X2, Y2  string
	Title           string
}

// NewWaterfall returns the layout of a trail.
func NewWaterfall(t *trail.Story) *Waterfall {
	w := &Waterfall{}
	groups := grouped(t)

	// The rows of the spans, and the moments for the time axis.
	places := map[trail.Ref]*place{}
	var moments []time.Duration
	row := 1 // below the axis
	var starts []int
	for gi := range groups {
		g := &groups[gi]
		row++ // the heading of the group
		for li := range g.Lanes {
			l := &g.Lanes[li]
			starts = append(starts, row)
			for _, n := range l.Spans {
				if len(places) == rowsShown {
					w.Hidden++
					continue
				}
				places[n.Ref] = &place{row: row, node: n}
				l.Rows = append(l.Rows, Row{Node: n})
				moments = append(moments, n.Offset, n.Offset+n.Duration)
				row++
			}
		}
	}
	w.Groups, w.Rows = groups, row
	scale := newTimescale(moments)
	w.Ticks, w.Cuts = scale.marks()
	for _, s := range starts {
		w.Lines = append(w.Lines, w.y(float64(s)))
	}
	w.tie(t.Edges, places)
	w.draw(scale, t.Edges, places)
	return w
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
	step := steps(t.Services)
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

// tie sets the badges and the edges of each row.
func (w *Waterfall) tie(edges []trail.Edge, places map[trail.Ref]*place) {
	causes, led := map[trail.Ref][]Tie{}, map[trail.Ref][]Tie{}
	label := func(r trail.Ref) string {
		if p := places[r]; p != nil {
			return p.node.Service + ": " + p.node.Name
		}
		return "span " + r.SpanID
	}
	for _, e := range edges {
		if e.Kind == trail.EdgeParent {
			continue
		}
		t := Tie{Relationship: e.Relationship, EventType: e.EventType, Wait: e.Wait, Kind: e.Kind, Missing: e.Missing, External: e.External}
		if e.Kind == trail.EdgeRetry {
			t.Relationship = "the delivery before"
		}
		t.Ref, t.Label = e.From, label(e.From)
		causes[e.To] = append(causes[e.To], t)
		if e.Kind == trail.EdgeRetry {
			t.Relationship = "the next delivery"
		}
		t.Ref, t.Label = e.To, label(e.To)
		led[e.From] = append(led[e.From], t)
	}
	for _, g := range w.Groups {
		for _, l := range g.Lanes {
			for i := range l.Rows {
				r := &l.Rows[i]
				r.Causes, r.Led, r.Badges = causes[r.Ref], led[r.Ref], badges(r.Node)
			}
		}
	}
}

func badges(n trail.Node) (all []Badge) {
	if n.Status == trail.StatusError || n.ErrorType != "" {
		all = append(all, Badge{"failed", "failed"})
	}
	if n.Delivery > 1 && strings.HasPrefix(n.Name, "process ") {
		all = append(all, Badge{"retry", fmt.Sprintf("delivery %d", n.Delivery)})
	}
	if n.Settlement != "" && n.Settlement != "ack" {
		all = append(all, Badge{"retry", n.Settlement})
	}
	if n.Compensation {
		all = append(all, Badge{"undo", "undo"})
	}
	if n.Batch != nil {
		all = append(all, Badge{"batch", fmt.Sprintf("batch: %d of %d", n.Batch.Own, n.Batch.Links)})
	}
	return all
}

// draw computes the bars and arrows.
func (w *Waterfall) draw(scale timescale, edges []trail.Edge, places map[trail.Ref]*place) {
	for _, r := range slices.SortedFunc(maps.Keys(places), func(a, b trail.Ref) int {
		return cmp.Compare(places[a].row, places[b].row)
	}) {
		p := places[r]
		from, to := scale.at(p.node.Offset), scale.at(p.node.Offset+p.node.Duration)
		class := "bar " + Class(p.node.Service)
		if p.node.Critical {
			class += " critical"
		}
		if p.node.Status == trail.StatusError || p.node.ErrorType != "" {
			class += " failed"
		}
		if p.node.Compensation {
			class += " undo"
		}
		w.Bars = append(w.Bars, Bar{r.SpanID, p.node.Service, class, percent(from), percent(max(to-from, 0)), w.y(float64(p.row) + 0.5)})
	}
	// The arrows of a span leave it at its end, or at the start of the first span that it
	// caused if that is earlier: an arrow never points back in time.
	way := map[trail.Ref]float64{}
	drawn := func(e trail.Edge) bool {
		return e.Kind != trail.EdgeParent && places[e.From] != nil && places[e.To] != nil
	}
	for _, e := range edges {
		if !drawn(e) {
			continue
		}
		from, to := places[e.From].node, places[e.To].node
		x, ok := way[e.From]
		if !ok {
			x = scale.at(from.Offset + from.Duration)
		}
		way[e.From] = min(x, scale.at(to.Offset))
	}
	for _, e := range edges {
		if !drawn(e) {
			continue
		}
		from, to := places[e.From], places[e.To]
		class := "arrow " + strings.ReplaceAll(e.Kind, "_", "-")
		if e.Kind == trail.EdgeLink {
			class += " " + Class(from.node.Service)
		}
		switch {
		case to.node.Batch != nil:
			class += " batch"
		case from.node.Critical && to.node.Critical && e.Kind == trail.EdgeLink:
			class += " critical"
		}
		w.Arrows = append(w.Arrows, Arrow{
			From: e.From.SpanID, To: e.To.SpanID, Class: class,
			X1: percent(way[e.From]), Y1: w.y(float64(from.row) + 0.5), X2: percent(scale.at(to.node.Offset)), Y2: w.y(float64(to.row) + 0.5),
			Title: cmp.Or(e.Relationship, e.Kind),
		})
	}
	// Arrows of the critical path are drawn last, above the others.
	slices.SortStableFunc(w.Arrows, func(a, b Arrow) int { return cmp.Compare(rank(a.Class), rank(b.Class)) })
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

// Share is a part of the critical path.
type Share struct {
	Label, Class string
	Duration     time.Duration
	Percent      float64
	X, Width     string // in Segments
}

// Shares returns the segments of a critical path in the order of time, and their sums by
// service, the largest first. It returns nil for an empty path.
func Shares(p trail.CriticalPath) (segments, sums []Share) {
	if p.Duration <= 0 || len(p.Segments) == 0 {
		return nil, nil
	}
	by := map[string]int{}
	start := p.Segments[0].Offset
	for _, s := range p.Segments {
		label, class := s.Service, Class(s.Service)
		if s.Wait {
			label, class = "waiting", "svc-wait"
		}
		segments = append(segments, Share{Label: label, Class: class, Duration: s.Duration,
			X:     percent(float64(s.Offset-start) / float64(p.Duration) * 100),
			Width: percent(float64(s.Duration) / float64(p.Duration) * 100)})
		i, ok := by[label]
		if !ok {
			i = len(sums)
			by[label] = i
			sums = append(sums, Share{Label: label, Class: class})
		}
		sums[i].Duration += s.Duration
	}
	for i := range sums {
		sums[i].Percent = float64(sums[i].Duration) / float64(p.Duration) * 100
	}
	slices.SortStableFunc(sums, func(a, b Share) int { return cmp.Compare(b.Duration, a.Duration) })
	return segments, sums
}
