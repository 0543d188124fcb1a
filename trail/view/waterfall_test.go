package view

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

// Later moments are further right, with and without cuts; a cut takes a fixed share, and work
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
		"Short":    {[]time.Duration{0, ms, 18 * ms}, nil}, // too short to cut
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

// Spans of centuries have an axis too.
func TestTimescaleOfCenturies(t *testing.T) {
	t.Parallel()
	const far = time.Duration(math.MaxInt64)
	if ticks, _ := newTimescale([]time.Duration{0, far / 5, far / 5 * 2, far / 5 * 3, far / 5 * 4, far}).marks(); len(ticks) == 0 {
		t.Error("no ticks")
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
	counts := node(50, "d", "process", 100*ms, ms)
	counts.Batch = &trail.Batch{Links: 7, Own: 2}
	again, settled := node(30, "b", "b's work", 9*ms, ms), node(32, "b", "b's settlement", 10*ms, 0)
	again.Delivery, again.Attributes = 2, trail.Attributes{"messaging.operation.type": "process"}
	settled.Delivery, settled.Attributes = 2, trail.Attributes{"messaging.operation.type": "settle"}
	return &trail.Story{
		Lanes: []trail.Lane{
			lane(counts),
			lane(node(10, "shop", "POST /orders", 0, 10*ms), node(11, "shop", "publish orders.created", 2*ms, 6*ms)),
			lane(node(20, "a", "process orders.created", 4*ms, ms), node(21, "a", "publish a.done", 5*ms, 0)),
			lane(again, node(31, "b", "publish b.done", 10*ms, ms), settled),
			lane(node(40, "c", "process b.done", 12*ms, ms)),
		},
		Edges: []trail.Edge{link(11, 20), link(11, 30), link(21, 40), link(31, 40), link(21, 50), {Kind: trail.EdgeLink, From: ref(99), To: ref(10), Missing: true}},
		Services: trail.ServiceMap{
			Services: []trail.Service{{Name: "a", Step: 1}, {Name: "b", Step: 1}, {Name: "c", Step: 2}, {Name: "d", Step: 2}, {Name: "shop"}},
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

func layout(s *trail.Story) *Waterfall { return newWaterfall(s, Options{Class: Class}) }

// Services come in the order in which events reach them; arrows never point back
// in time, and those from one span leave it in one place.
func TestWaterfall(t *testing.T) {
	t.Parallel()
	w := layout(sample())
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
	if rows != 9 || len(w.Bars) != 9 || w.Hidden != 0 {
		t.Errorf("%d rows, %d bars, %d hidden, want 9, 9 and 0", rows, len(w.Bars), w.Hidden)
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
				case "b's work":
					if len(r.Badges) != 1 || r.Badges[0].Text != "delivery 2" {
						t.Errorf("the second delivery has badges %v", r.Badges)
					}
				case "b's settlement":
					if len(r.Badges) != 0 {
						t.Errorf("its settlement has badges %v", r.Badges)
					}
				case "process":
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
	if w := layout(&trail.Story{}); len(w.Bars) != 0 {
		t.Errorf("an empty trail has %d bars", len(w.Bars))
	}
	many := &trail.Story{Lanes: []trail.Lane{{Service: "a"}}}
	for i := range 10_000 {
		many.Lanes[0].Spans = append(many.Lanes[0].Spans, trail.Node{Span: trail.Span{Ref: trail.Ref{SpanID: strconv.Itoa(i)}, Service: "a"}, Offset: time.Duration(i) * ms, Duration: ms})
	}
	w := layout(many)
	if len(w.Bars) != rowsShown+1 || w.Hidden != 10_000-rowsShown {
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
	segments, sums := shares(p, Class)
	if len(segments) != 4 || segments[1].Label != "waiting" || segments[3].X != "60.00%" || segments[3].Width != "40.00%" {
		t.Errorf("segments = %+v", segments)
	}
	if len(sums) != 3 || sums[0].Label != "a" || sums[0].Duration != 6*ms || sums[0].Percent != 60 || sums[1].Label != "waiting" {
		t.Errorf("sums = %+v", sums)
	}
	if segments, _ := shares(trail.CriticalPath{}, Class); segments != nil {
		t.Errorf("no path has segments %v", segments)
	}
}

// Events go to the right; a service that only counts is on the far right, and no service is
// drawn on another.
func TestServiceMap(t *testing.T) {
	t.Parallel()
	m := NewServiceMap(sample().Services, Class)
	x := map[string]int{}
	for i, n := range m.Nodes {
		x[n.Name] = n.X
		if n.X < 32 || n.X+mapNodeWidth > m.Width || // an arrow within the column takes 30
			n.Y+mapNodeHeight > m.Height {
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
	// A service that receives events is at the right of their sender, also if it starts
	// stories of its own.
	m = NewServiceMap(trail.ServiceMap{
		Services: []trail.Service{{Name: "b"}, {Name: "shop"}, {Name: "c", Step: 1}},
		Flows:    []trail.EventsFlow{{From: "b", To: "b"}, {From: "b", To: "c"}, {From: "c", To: "b"}, {From: "shop", To: "b"}, {From: "shop", To: "shop"}},
	}, Class)
	if b, shop := m.Nodes[0], m.Nodes[1]; b.X <= shop.X {
		t.Errorf("b at %d is not at the right of shop at %d", b.X, shop.X)
	}
	NewServiceMap(trail.ServiceMap{}, Class)
	NewServiceMap(trail.ServiceMap{Services: []trail.Service{{Name: "a"}}, Flows: []trail.EventsFlow{{From: "a", To: "a"}}}, Class)
}

func TestWholePercent(t *testing.T) {
	t.Parallel()
	for share, want := range map[float64]string{0: "0 %", 0.04: "under 1 %", 0.99: "under 1 %", 1: "1 %", 57.6: "58 %", 100: "100 %"} {
		if got := WholePercent(share); got != want {
			t.Errorf("%g is %q, want %q", share, got, want)
		}
	}
}
