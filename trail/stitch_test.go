package trail_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

// A story contains every span and every link, and each lane is a tree.
func TestStitch(t *testing.T) {
	s, by := happy(1)
	got := stitched(t, s)
	if !got.Complete || got.Pending || len(got.Gaps) > 0 {
		t.Errorf("the story is not complete: %v", got.Gaps)
	}
	if got.Start != s.start || got.Duration != 3001*time.Millisecond {
		t.Errorf("the story starts at %v and takes %v", got.Start, got.Duration)
	}
	for _, l := range got.Lanes {
		for i, n := range l.Spans {
			if n.TraceID != l.TraceID {
				t.Errorf("%s is in the lane of another trace", n.Name)
			}
			if n.Depth > 0 && !slices.ContainsFunc(l.Spans[:i], func(p trail.Node) bool { return p.SpanID == n.ParentID && p.Depth == n.Depth-1 }) {
				t.Errorf("%s is not below its parent", n.Name)
			}
		}
	}
	if n := spanCount(got); n != len(s.spans) {
		t.Errorf("%d spans, want %d", n, len(s.spans))
	}
	links := 0
	for _, stub := range s.spans {
		links += len(stub.Links)
		for _, l := range stub.Links {
			if !slices.ContainsFunc(got.Edges, func(e trail.Edge) bool {
				return e.Kind == trail.EdgeLink && e.To == refOf(stub) && e.From.SpanID == l.SpanContext.SpanID().String() && !e.Missing && !e.External &&
					e.Relationship != "" && e.EventType != ""
			}) {
				t.Errorf("a link of %s is missing", stub.Name)
			}
		}
	}
	if n := len(edges(got, trail.EdgeLink)); n != links {
		t.Errorf("%d links, want %d", n, links)
	}
	if n := got.Find(refOf(by["fulfillment"])); n == nil || n.Offset != 22*time.Millisecond || n.Duration != 10*time.Millisecond || n.Delivery != 1 {
		t.Errorf("fulfillment's span is %+v", n)
	}
	if e := got.Links(refOf(by["pay"])); len(e) != 1 || e[0].Wait != time.Millisecond {
		t.Errorf("the links of payments are %+v", e)
	}
}

func spanCount(s *trail.Story) (n int) {
	for _, l := range s.Lanes {
		n += len(l.Spans)
	}
	return n
}

func edges(s *trail.Story, kind string) []trail.Edge {
	return slices.DeleteFunc(slices.Clone(s.Edges), func(e trail.Edge) bool { return e.Kind != kind })
}

func TestStitchIgnoresOrderOfArrival(t *testing.T) {
	s, _ := happy(1)
	found := find(t, s)
	want, err := json.Marshal(trail.Stitch(found, s.options()))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(found.Spans), func(i, j int) {
			found.Spans[i], found.Spans[j] = found.Spans[j], found.Spans[i]
		})
		got, err := json.Marshal(trail.Stitch(found, s.options()))
		if err != nil || string(got) != string(want) {
			t.Fatalf("seed %d: the story is\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// Only the story's own links of a batch are followed.
func TestBatch(t *testing.T) {
	one, byOne := happy(1)
	two, byTwo := happy(2)
	batch := byOne["batch"]
	batch.Links = append(batch.Links, byTwo["batch"].Links...)
	found := find(t, one, two)
	got := trail.Stitch(found, two.options())
	n := got.Find(refOf(batch))
	if n == nil || n.Batch == nil || n.Batch.Links != 12 || n.Batch.Own != 6 {
		t.Fatalf("the batch is %+v", n)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), one.id) || len(got.Links(refOf(batch))) != 6 || !got.Complete {
		t.Errorf("the batch's links are %v; %v", got.Links(refOf(batch)), got.Gaps)
	}
	both := []string{one.id, two.id}
	if ids := found.Values(key); !slices.Equal(ids, both) {
		t.Errorf("the spans belong to %v", ids)
	}
	if ids := found.ValuesOf(refOf(batch), key); !slices.Equal(ids, both) {
		t.Errorf("the batch belongs to %v", ids)
	}
	if ids := found.ValuesOf(refOf(byTwo["pay"]), key); !slices.Equal(ids, both[1:]) {
		t.Errorf("payments' span belongs to %v", ids)
	}
}

// The ancestors and descendants of a story's span belong to the story too, unless they
// have another value.
func TestSpansWithoutValue(t *testing.T) {
	s, by := happy(1)
	call := s.child(by["pay"], "GET", oteltrace.SpanKindClient, 18, 19)
	below := s.child(call, "dial", oteltrace.SpanKindInternal, 18.2, 18.4)
	above := s.span("payments", "poll", oteltrace.SpanKindInternal, 4, 22)
	above.SpanContext = above.SpanContext.WithTraceID(by["pay"].SpanContext.TraceID())
	by["pay"].Parent = above.SpanContext
	other := s.child(by["pay"], "another order's", oteltrace.SpanKindInternal, 18, 19)
	ofBatch := s.child(by["batch"], "store", oteltrace.SpanKindClient, 140, 141)
	for _, stub := range []*tracetest.SpanStub{call, below, above, ofBatch} {
		stub.Attributes = nil
	}
	other.Attributes = []attribute.KeyValue{attribute.String(key, newStory(7).id)}
	got := stitched(t, s)
	for stub, want := range map[*tracetest.SpanStub]bool{call: true, below: true, above: true, other: false, ofBatch: true} {
		if in := got.Find(refOf(stub)) != nil; in != want {
			t.Errorf("%q is in the story: %t, want %t", stub.Name, in, want)
		}
	}
}

// Retry edges connect the deliveries of one message to one consumer.
func TestRetries(t *testing.T) {
	s, by := happy(1)
	s.spans = s.spans[:3]
	var deliveries []*tracetest.SpanStub
	for i, from := range []float64{5, 105, 305} {
		p := s.process("payments", by["created"], i+1, from, from+2)
		if i < 2 {
			fail(p, "_OTHER")
		}
		deliveries = append(deliveries, p)
	}
	mail := s.process("notify", by["created"], 1, 5, 6) // another consumer's first delivery
	s.publish(deliveries[2], "payments.confirmed", 306, 307)

	got := stitched(t, s)
	want := []trail.Edge{
		{Kind: trail.EdgeRetry, From: refOf(deliveries[0]), To: refOf(deliveries[1]), Wait: 98 * time.Millisecond},
		{Kind: trail.EdgeRetry, From: refOf(deliveries[1]), To: refOf(deliveries[2]), Wait: 198 * time.Millisecond},
	}
	if retries := edges(got, trail.EdgeRetry); fmt.Sprint(retries) != fmt.Sprint(want) {
		t.Errorf("the retries are\n%v, want\n%v", retries, want)
	}
	for i, l := range got.Lanes[1:] {
		if l.Service == "payments" && l.Failed == (l.Delivery == 3) {
			t.Errorf("lane %d: delivery %d, failed %t", i, l.Delivery, l.Failed)
		}
	}
	if n := got.Find(refOf(deliveries[0])); n.ErrorType != "_OTHER" || n.Status != trail.StatusError {
		t.Errorf("the first delivery is %+v", n)
	}
	// Without a conclusion the path leads to the last end, through all deliveries.
	for _, d := range deliveries {
		if !got.Find(refOf(d)).Critical {
			t.Errorf("delivery at %v is not on the critical path", d.StartTime.Sub(s.start))
		}
	}
	if got.Find(refOf(mail)).Critical {
		t.Error("notify is on the critical path")
	}
	wantPath(t, got.CriticalPath, 0, 307*time.Millisecond)
}

// Circles of parents and links, and spans that end before they start, still give a
// story with all spans.
func TestNonsense(t *testing.T) {
	s, by := happy(1)
	by["post"].Parent = by["created"].SpanContext // a circle of parents
	by["pay"].Parent = by["pay"].SpanContext      // its own parent
	s.link(by["created"], by["shipped"], "triggered_by")
	s.link(by["pay"], by["confirmed"], "triggered_by") // a circle of links
	by["charge"].EndTime = by["charge"].StartTime.Add(-time.Hour)
	got := stitched(t, s)
	if n := spanCount(got); n != len(s.spans) {
		t.Errorf("%d spans, want %d", n, len(s.spans))
	}
	for _, seg := range got.CriticalPath.Segments {
		if seg.Duration <= 0 {
			t.Errorf("a segment takes %v", seg.Duration)
		}
	}
}

// Each missing part gives one gap.
func TestGaps(t *testing.T) {
	outside := newStory(9).span("x", "x", oteltrace.SpanKindClient, 0, 1).SpanContext
	for name, tt := range map[string]struct {
		change func(*story, map[string]*tracetest.SpanStub)
		want   []string // kinds
		detail string   // part of each
	}{
		"nothing": {change: func(*story, map[string]*tracetest.SpanStub) {}},
		"a producer": {change: func(s *story, by map[string]*tracetest.SpanStub) { s.remove(by["mail1"]) },
			want: []string{trail.GapLinkTarget}, detail: `analytics "process ORDERS" links a span that is missing`},
		"a parent": {change: func(s *story, by map[string]*tracetest.SpanStub) { s.remove(by["fulfillment"]) },
			want: []string{trail.GapParent}, detail: "The parent of fulfillment \"fulfill order\" is missing: it has not ended yet, was not sampled, or is no longer kept. 2 spans refer to it."},
		"a parent that is linked, too": {change: func(s *story, by map[string]*tracetest.SpanStub) {
			s.link(by["shipped"], by["fulfill"], "triggered_by")
			s.link(by["mail1"], by["fulfill"], "triggered_by")
			s.remove(by["fulfill"])
		}, want: []string{trail.GapParent}, detail: "The parent of fulfillment \"book parcel\" is missing: it has not ended yet, was not sampled, or is no longer kept. 3 spans refer to it."},
		"links": {change: func(_ *story, by map[string]*tracetest.SpanStub) { by["batch"].DroppedLinks = 7 },
			want: []string{trail.GapLinksDropped}, detail: "lost 7 of its links"},
		"an outside caller": {change: func(_ *story, by map[string]*tracetest.SpanStub) {
			by["post"].Links = append(by["post"].Links, traceLink(outside))
		}},
		"an untrusted producer": {change: func(_ *story, by map[string]*tracetest.SpanStub) {
			by["post"].Links = append(by["post"].Links, traceLink(outside, attribute.String("link.trace_id", outside.TraceID().String()), attribute.Bool("link.untrusted", true)))
		}},
		"more than 20,000 spans": {change: func(s *story, by map[string]*tracetest.SpanStub) {
			for i := range 20_000 {
				s.child(by["due"], "call", oteltrace.SpanKindClient, 3000+float64(i)/20_000, 3001)
			}
		}, want: []string{trail.GapTruncated}, detail: "more spans than the 20000 shown here"},
	} {
		t.Run(name, func(t *testing.T) {
			s, by := happy(1)
			tt.change(s, by)
			got := stitched(t, s)
			var kinds []string
			for _, g := range got.Gaps {
				kinds = append(kinds, g.Kind)
				if !strings.Contains(g.Detail, tt.detail) {
					t.Errorf("the gap is %q, want %q", g.Detail, tt.detail)
				}
			}
			if !slices.Equal(kinds, tt.want) || got.Complete != (len(kinds) == 0) || got.Pending {
				t.Errorf("the gaps are %q, want %q; complete: %t, pending: %t", kinds, tt.want, got.Complete, got.Pending)
			}
			if spanCount(got) > trail.DefaultMaxSpans {
				t.Errorf("%d spans", spanCount(got))
			}
		})
	}
	s, _ := happy(1)
	if got := trail.Stitch(trail.Spans{Truncated: true}, s.options()); len(got.Gaps) != 1 || got.Gaps[0].Kind != trail.GapTruncated || len(got.Lanes) != 0 {
		t.Errorf("a source that left out spans gives %+v", got)
	}
}

func TestServiceMap(t *testing.T) {
	one, byOne := happy(1)
	two, _ := happy(2)
	fail(byOne["charge"], "timeout")
	found, err := stored(one, two).Recent(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	m := trail.Map(found.Spans, nil)
	var names []string
	for _, s := range m.Services {
		names = append(names, s.Name)
		if want := map[bool]int{true: 1}[s.Name == "payments"]; s.Failed != want {
			t.Errorf("%s has %d failed spans, want %d", s.Name, s.Failed, want)
		}
	}
	if want := []string{"analytics", "fulfillment", "inventory", "notify", "orders", "payments"}; !slices.Equal(names, want) {
		t.Errorf("the services are %v", names)
	}
	wantFlow := func(m trail.ServiceMap, want trail.EventsFlow) {
		t.Helper()
		if !slices.Contains(m.Flows, want) {
			t.Errorf("no flow %+v in %+v", want, m.Flows)
		}
	}
	wantFlow(m, trail.EventsFlow{From: "orders", To: "payments", EventType: "orders.created", Relationship: "triggered_by", Links: 2})
	wantFlow(m, trail.EventsFlow{From: "payments", To: "fulfillment", EventType: "payments.confirmed", Relationship: "payment_confirmation", Links: 2})
	wantFlow(m, trail.EventsFlow{From: "orders", To: "orders", EventType: "deadlines.at", Relationship: "triggered_by", Links: 2})
	// A missing publisher's service is known from the event type.
	alone := trail.Map(slices.DeleteFunc(found.Spans, func(s trail.Span) bool { return s.Service != "analytics" }), func(eventType string) string {
		publisher, _, _ := strings.Cut(eventType, ".")
		return publisher
	})
	wantFlow(alone, trail.EventsFlow{From: "orders", To: "analytics", EventType: "orders.created", Relationship: "triggered_by", Links: 2})
	// A story's own map counts its own links.
	wantFlow(stitched(t, one).Services, trail.EventsFlow{From: "orders", To: "payments", EventType: "orders.created", Relationship: "triggered_by", Links: 1})
}

// A story that is too large has the spans nearest to its start, and of those at the same
// distance the earlier ones, in whatever order they arrive.
func TestCut(t *testing.T) {
	var found trail.Spans
	for i := range 50 { // a chain: trace i links trace i-1
		at := time.Unix(1_800_000_000+int64(i), 0)
		s := trail.Span{Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", i+1), SpanID: fmt.Sprintf("%016x", i+1)}, Service: "a", Name: fmt.Sprint(i), Start: at, End: at.Add(1e6)}
		if i > 0 {
			s.Links = []trail.Link{{Ref: found.Spans[i-1].Ref}}
		}
		found.Spans = append(found.Spans, s)
	}
	start := found.Spans[25].Ref
	for range 20 {
		rand.Shuffle(len(found.Spans), func(i, j int) { found.Spans[i], found.Spans[j] = found.Spans[j], found.Spans[i] })
		got := trail.Stitch(found, trail.Options{MaxSpans: 4}, start)
		var names []string
		for _, l := range got.Lanes {
			names = append(names, l.Name)
		}
		if want := []string{"23", "24", "25", "26"}; !slices.Equal(names, want) || got.Complete || !slices.ContainsFunc(got.Gaps, func(g trail.Gap) bool { return g.Kind == trail.GapTruncated }) {
			t.Fatalf("it has %q, want %q: %+v", names, want, got.Gaps)
		}
	}
}
