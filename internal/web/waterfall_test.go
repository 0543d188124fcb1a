package web

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

const ms = time.Millisecond

// Time goes on to the right, whatever is cut; a cut takes a fixed share, and work
// gets the rest.
func TestTimescale(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		moments []time.Duration
		cuts    []string
	}{
		"None":     {nil, nil},
		"One":      {[]time.Duration{5}, nil},
		"Even":     {[]time.Duration{0, ms, 2 * ms, 3 * ms}, nil},
		"Short":    {[]time.Duration{0, ms, 18 * ms}, nil}, // nobody is served by cutting that
		"Deadline": {[]time.Duration{0, ms, 2 * ms, 3002 * ms, 3003 * ms}, []string{"3.00 s"}},
		"Retries":  {[]time.Duration{0, ms, 101 * ms, 102 * ms, 302 * ms, 303 * ms, 703 * ms, 704 * ms, 3000 * ms, 3001 * ms}, []string{"100 ms", "200 ms", "400 ms", "2.30 s"}},
		"AllAlike": {[]time.Duration{0, 100 * ms, 200 * ms, 300 * ms, 400 * ms, 500 * ms, 600 * ms}, nil}, // none stands out
	} {
		t.Run(name, func(t *testing.T) {
			s := newTimescale(tc.moments)
			_, cuts := s.marks()
			var got []string
			for _, c := range cuts {
				got = append(got, c.Label)
			}
			if !slices.Equal(got, tc.cuts) {
				t.Errorf("cuts = %q, want %q", got, tc.cuts)
			}
			last := -1.0
			for _, m := range tc.moments {
				x := s.at(m)
				if x < 0 || x > 100 || x < last {
					t.Errorf("%v is at %g, after %g", m, x, last)
				}
				last = x
			}
		})
	}
	s := newTimescale([]time.Duration{0, ms, 2 * ms, 3002 * ms, 3003 * ms})
	if a, b := s.at(ms)-s.at(0), s.at(3003*ms)-s.at(3002*ms); a < 25 || b < 25 || a-b > 0.01 || b-a > 0.01 {
		t.Errorf("a millisecond takes %g and %g percent, want the same before and after the cut, and most of the width", a, b)
	}
}

func TestTimescaleAtRandom(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var moments []time.Duration
		for range 1 + r.IntN(60) {
			moments = append(moments, time.Duration(r.Int64N(int64(1)<<(1+r.IntN(40)))))
		}
		s := newTimescale(moments)
		slices.Sort(moments)
		last := -1.0
		for _, m := range moments {
			if x := s.at(m); x < last || x > 100 || x < 0 {
				t.Fatalf("%v: %v is at %g, after %g", moments, m, x, last)
			} else {
				last = x
			}
		}
		ticks, _ := s.marks()
		before := -100.0
		for _, tick := range ticks {
			x, err := strconv.ParseFloat(strings.TrimSuffix(tick.X, "%"), 64)
			if err != nil || x-before < markEvery*0.75 {
				t.Fatalf("%v: ticks %v are too close", moments, ticks)
			}
			before = x
		}
	}
}

// sample is an order that fans out to a and b, which meet in c; d counts.
func sample() *trail.Story {
	ref := func(n int) trail.Ref {
		return trail.Ref{TraceID: fmt.Sprintf("%032x", n/10), SpanID: fmt.Sprintf("%016x", n)}
	}
	node := func(n int, service, name string, from, took time.Duration) trail.Node {
		return trail.Node{Span: trail.Span{Ref: ref(n), Service: service, Name: name}, Offset: from, Duration: took}
	}
	lane := func(nodes ...trail.Node) trail.Lane {
		return trail.Lane{TraceID: nodes[0].TraceID, Service: nodes[0].Service, Name: nodes[0].Name, Spans: nodes}
	}
	link := func(from, to int) trail.Edge {
		return trail.Edge{Kind: trail.EdgeLink, From: ref(from), To: ref(to), Relationship: "triggered_by"}
	}
	counts := node(50, "d", "process ORDERS", 100*ms, ms)
	counts.Batch = &trail.Batch{Links: 7, Own: 2}
	return &trail.Story{
		Lanes: []trail.Lane{
			lane(counts),
			lane(node(10, "shop", "POST /orders", 0, 10*ms), node(11, "shop", "publish orders.created", 2*ms, 6*ms)),
			lane(node(20, "a", "process orders.created", 4*ms, ms), node(21, "a", "publish a.done", 5*ms, 0)),
			lane(node(30, "b", "process orders.created", 9*ms, ms), node(31, "b", "publish b.done", 10*ms, ms)),
			lane(node(40, "c", "process b.done", 12*ms, ms)),
		},
		Edges: []trail.Edge{link(11, 20), link(11, 30), link(21, 40), link(31, 40), link(21, 50), {Kind: trail.EdgeLink, From: ref(99), To: ref(10), Missing: true}},
		Services: trail.ServiceMap{
			Services: []trail.Service{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "shop"}},
			Flows: []trail.EventsFlow{{From: "a", To: "c", EventType: "a.done"}, {From: "a", To: "d", EventType: "a.done"}, {From: "b", To: "c", EventType: "b.done"},
				{From: "shop", To: "a", EventType: "orders.created"}, {From: "shop", To: "b", EventType: "orders.created"}, {From: "shop", To: "c", EventType: "orders.cancelled"}},
		},
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Services come in the order in which events reach them; arrows never point back
// in time, and those from one span leave it in one place.
func TestWaterfall(t *testing.T) {
	t.Parallel()
	w := NewWaterfall(sample())
	var order []string
	rows := 0
	for _, g := range w.Groups {
		order = append(order, g.Service)
		for _, l := range g.Lanes {
			rows += len(l.Rows)
		}
	}
	if want := []string{"shop", "a", "b", "c", "d"}; !slices.Equal(order, want) {
		t.Errorf("services %q, want %q", order, want)
	}
	if rows != 8 || len(w.Bars) != 8 || w.Hidden != 0 {
		t.Errorf("%d rows, %d bars, %d hidden, want 8, 8 and 0", rows, len(w.Bars), w.Hidden)
	}
	if len(w.Arrows) != 5 {
		t.Fatalf("%d arrows, want one for each link between spans that are known", len(w.Arrows))
	}
	leaves := map[string]string{}
	for _, a := range w.Arrows {
		if number(t, a.X2) < number(t, a.X1) {
			t.Errorf("the arrow from %s to %s points back in time: %s to %s", a.From, a.To, a.X1, a.X2)
		}
		if x, ok := leaves[a.From]; ok && x != a.X1 {
			t.Errorf("arrows leave %s at %s and at %s", a.From, x, a.X1)
		}
		leaves[a.From] = a.X1
	}
	for _, g := range w.Groups {
		for _, l := range g.Lanes {
			for _, r := range l.Rows {
				switch r.Name {
				case "process b.done":
					if len(r.Causes) != 2 || r.Causes[1].Label != "b: publish b.done" {
						t.Errorf("%s is caused by %v", r.Name, r.Causes)
					}
				case "publish orders.created":
					if len(r.Led) != 2 {
						t.Errorf("%s led to %v", r.Name, r.Led)
					}
				case "process ORDERS":
					if len(r.Badges) != 1 || r.Badges[0].Text != "batch: 2 of 7" {
						t.Errorf("%s has badges %v", r.Name, r.Badges)
					}
				}
			}
		}
	}
}

func TestWaterfallBounds(t *testing.T) {
	t.Parallel()
	if w := NewWaterfall(&trail.Story{}); len(w.Bars) != 0 {
		t.Errorf("an empty trail has %d bars", len(w.Bars))
	}
	many := &trail.Story{Lanes: []trail.Lane{{Service: "a"}}}
	for i := range 10_000 {
		many.Lanes[0].Spans = append(many.Lanes[0].Spans, trail.Node{Span: trail.Span{Ref: trail.Ref{SpanID: strconv.Itoa(i)}, Service: "a"}, Offset: time.Duration(i) * ms, Duration: ms})
	}
	w := NewWaterfall(many)
	if len(w.Bars) != rowsShown || w.Hidden != 10_000-rowsShown {
		t.Errorf("%d bars and %d hidden, want %d and the rest", len(w.Bars), w.Hidden, rowsShown)
	}
}

// The sums of a critical path's shares are all of it.
func TestShares(t *testing.T) {
	t.Parallel()
	p := trail.CriticalPath{Duration: 10 * ms, Segments: []trail.Segment{
		{Service: "a", Offset: 5 * ms, Duration: 2 * ms}, {Service: "b", Wait: true, Offset: 7 * ms, Duration: 3 * ms},
		{Service: "b", Offset: 10 * ms, Duration: ms}, {Service: "a", Offset: 11 * ms, Duration: 4 * ms},
	}}
	segments, sums := Shares(p)
	if len(segments) != 4 || segments[1].Label != "waiting" || segments[3].X != "60.00%" || segments[3].Width != "40.00%" {
		t.Errorf("segments = %+v", segments)
	}
	if len(sums) != 3 || sums[0].Label != "a" || sums[0].Duration != 6*ms || sums[0].Percent != 60 || sums[1].Label != "waiting" {
		t.Errorf("sums = %+v", sums)
	}
	if segments, _ := Shares(trail.CriticalPath{}); segments != nil {
		t.Errorf("no path has segments %v", segments)
	}
}

// Events go to the right; who only counts is on the far right, and no service is
// drawn on another.
func TestServiceMap(t *testing.T) {
	t.Parallel()
	m := NewServiceMap(sample().Services)
	x := map[string]int{}
	for i, n := range m.Nodes {
		x[n.Name] = n.X
		if n.X+mapNodeWidth > m.Width || n.Y+mapNodeHeight > m.Height {
			t.Errorf("%s is outside of the picture", n.Name)
		}
		for _, other := range m.Nodes[:i] {
			if n.X == other.X && max(n.Y-other.Y, other.Y-n.Y) < mapNodeHeight {
				t.Errorf("%s and %s are on each other", n.Name, other.Name)
			}
		}
	}
	if !(x["shop"] < x["a"] && x["a"] == x["b"] && x["b"] < x["c"] && x["c"] <= x["d"]) {
		t.Errorf("columns: %v", x)
	}
	if len(m.Ways) != 6 {
		t.Errorf("%d ways, want 6", len(m.Ways))
	}
	NewServiceMap(trail.ServiceMap{})
	NewServiceMap(trail.ServiceMap{Services: []trail.Service{{Name: "a"}}, Flows: []trail.EventsFlow{{From: "a", To: "a"}, {From: "x", To: "a"}}})
}

// A column is as high as its parts, and none is higher than the picture.
func TestChart(t *testing.T) {
	t.Parallel()
	c := NewChart("", []string{"a", "b"}, Count, []Stack{{Values: []int64{1, 2}}, {Values: []int64{0, 0}}, {Values: []int64{3, 4}, Mark: "z"}})
	if len(c.Columns) != 3 || len(c.Columns[1].Parts) != 0 || len(c.Columns[2].Parts) != 2 {
		t.Fatalf("columns = %+v", c.Columns)
	}
	if got := c.Lines[1].Label; got != "10" {
		t.Errorf("the highest line is %s, want 10", got)
	}
	parts := c.Columns[2].Parts
	if y, h := number(t, parts[0].Y), number(t, parts[0].Height); y+h != 100 || h != 3*8.8 {
		t.Errorf("the lowest part begins at %g and is %g high", y, h)
	}
	if y, h := number(t, parts[1].Y), number(t, parts[1].Height); y < 0 || y+h > number(t, parts[0].Y)+0.01 {
		t.Errorf("the part above begins at %g and is %g high", y, h)
	}
	if len(c.Marks) != 1 || c.Marks[0] != (Mark{X: c.At(2), Label: "z"}) {
		t.Errorf("marks = %v", c.Marks)
	}
	for v, want := range map[int64]float64{0: 2, 2: 2, 3: 4, 4: 4, 5: 10, 11: 20, 999: 1000, math.MaxInt64: 1e19} {
		if got := niceCeiling(v); got != want {
			t.Errorf("niceCeiling(%d) = %g, want %g", v, got, want)
		}
	}
}
