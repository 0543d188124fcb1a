package trail_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"example.org/ordertrail/trail"
)

// astray adds a link without ids, which the consumer of a message without context may have.
func astray(s trail.Span) trail.Span {
	s.Links = append(s.Links, trail.Link{Ref: trail.Ref{TraceID: strings.Repeat("0", 32), SpanID: strings.Repeat("0", 16)}, Attributes: trail.Attributes{"messaging.message.id": "7"}})
	return s
}

// A link without ids leads nowhere: it joins no stories, is no gap, and ends no search.
func TestLinkWithoutIDs(t *testing.T) {
	half := numbered(4, 3)
	half.Links = append(half.Links, trail.Link{Ref: trail.Ref{TraceID: numbered(0).TraceID, SpanID: strings.Repeat("0", 16)}})
	all := []trail.Span{numbered(0), astray(numbered(1, 0)), numbered(2, 1), astray(numbered(3)), half}
	for name, source := range sources(t, all) {
		for n, want := range map[int]string{0: "0 1 2", 2: "0 1 2", 3: "3 4"} {
			s, err := trail.Build(t.Context(), source, trail.Options{}, numbered(n).Ref)
			if err != nil {
				t.Fatal(name, err)
			}
			if drawn(s) != want || len(s.Gaps) > 0 || len(s.Edges) != len(strings.Fields(want))-1 {
				t.Errorf("%s, from %d: %s, want %s; gaps: %+v; edges: %+v", name, n, drawn(s), want, s.Gaps, s.Edges)
			}
		}
	}
}

// A message of a batch whose link has no ids may belong to any story.
func TestBatchWithoutIDs(t *testing.T) {
	found := trail.Spans{Spans: []trail.Span{numbered(0), numbered(1), batchOf(astray(astray(numbered(2, 0, 1))))}}
	s := trail.Stitch(found, trail.Options{}, numbered(0).Ref)
	if got := drawn(s); got != "(2) 0" || s.Find(numbered(2).Ref).Batch.Own != 1 || s.Find(numbered(2).Ref).Batch.Links != 4 {
		t.Errorf("%s: %+v", got, s.Find(numbered(2).Ref))
	}
	found.Spans = []trail.Span{numbered(0), batchOf(astray(numbered(2, 0)))}
	if got := drawn(trail.Stitch(found, trail.Options{}, numbered(0).Ref)); got != "(2) 0" {
		t.Errorf("one of two messages is known: %s", got)
	}
	if s := trail.Stitch(found, trail.Options{}, numbered(2).Ref); len(s.Stories) != 1 {
		t.Errorf("from the batch: %s; these stories meet: %+v", drawn(s), s.Stories)
	}
}

// Consumers of messages without context have not received one message twice.
func TestDeliveriesWithoutIDs(t *testing.T) {
	var found trail.Spans
	found.Spans = append(found.Spans, numbered(0))
	for n := 1; n < 3; n++ {
		s := astray(numbered(n))
		s.Kind, s.Attributes["messaging.nats.message.delivery_count"] = "consumer", int64(n)
		s.Links = append(s.Links, trail.Link{Ref: numbered(0).Ref, Attributes: trail.Attributes{"link.relationship": "cancels"}})
		found.Spans = append(found.Spans, s)
	}
	if retries := edges(trail.Stitch(found, trail.Options{}, numbered(0).Ref), trail.EdgeRetry); len(retries) > 0 {
		t.Errorf("%+v", retries)
	}
}

// A cause is a hub by its different effects: a consumer that is a child and links its
// producer, even twice, is one of them.
func TestHubCountsEffects(t *testing.T) {
	for consumers, want := range map[int]int{100: 101, 101: 2} {
		hub := numbered(0)
		hub.Attributes["k"] = "1"
		var late []trail.Span
		for n := 1; n <= consumers; n++ {
			s := numbered(n, 0, 0)
			s.TraceID, s.ParentID = hub.TraceID, hub.SpanID
			late = append(late, s)
		}
		for _, spans := range [][]trail.Span{append([]trail.Span{hub}, late...), append(late, hub)} {
			store := trail.NewStore(0)
			store.Add(spans...)
			if s, err := trail.Build(t.Context(), store, trail.Options{Key: "k"}, late[0].Ref); err != nil || spanCount(s) != want {
				t.Errorf("%d consumers: %d spans, want %d: %v", consumers, spanCount(s), want, err)
			}
		}
	}
	// The value of the hub is known after those of its effects, of which 15 are other orders'.
	hub := numbered(0)
	hub.Attributes["k"] = "1"
	store := trail.NewStore(0)
	store.Add(hub)
	for n := 1; n <= 130; n++ {
		s := numbered(n, 0, 0)
		s.TraceID = numbered(1).TraceID
		if n > 115 {
			s.Attributes["k"] = "2"
		}
		store.Add(s)
	}
	if s, err := trail.Build(t.Context(), store, trail.Options{Key: "k"}, numbered(1).Ref); err != nil || spanCount(s) != 2 {
		t.Errorf("115 consumers and others: %d spans, want 2: %v", spanCount(s), err)
	}
}

// Whether a missing span is an outside caller's does not depend on the link: it is missing if
// one of those that refer to it says that it should be there.
func TestExternalOfAll(t *testing.T) {
	plain, described, child := numbered(1, 0), numbered(2, 0), numbered(3)
	described.Links[0].Attributes["link.relationship"] = "triggered_by"
	child.TraceID, child.ParentID = numbered(0).TraceID, numbered(0).SpanID
	for name, spans := range map[string][]trail.Span{
		"a described link": {plain, described}, "the described link first": {described, plain}, "a parent": {plain, child}, "neither": {plain},
	} {
		missing := name != "neither"
		s := trail.Stitch(trail.Spans{Spans: spans}, trail.Options{}, plain.Ref)
		if len(s.Edges) != len(spans) || (len(s.Gaps) == 1) != missing || slices.ContainsFunc(s.Edges, func(e trail.Edge) bool { return e.External == missing }) {
			t.Errorf("%s: edges %+v, gaps %+v", name, s.Edges, s.Gaps)
		}
	}
}

// A span that ends before it starts, or without an end, lasts no time; no time is later
// than 2262.
func TestTimesOfOTLP(t *testing.T) {
	traces := ptrace.NewTraces()
	spans := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for _, times := range [][2]pcommon.Timestamp{{50, 10}, {50, 0}, {math.MaxInt64 + 5, math.MaxUint64}, {10, 50}} {
		s := spans.AppendEmpty()
		s.SetStartTimestamp(times[0])
		s.SetEndTimestamp(times[1])
	}
	var took []time.Duration
	for s := range trail.FromOTLP(traces) {
		took = append(took, s.End.Sub(s.Start))
		if s.Start.Before(time.Unix(0, 0)) {
			t.Errorf("a span starts at %v", s.Start)
		}
	}
	if want := []time.Duration{0, 0, 0, 40}; !slices.Equal(took, want) {
		t.Errorf("the spans last %v, want %v", took, want)
	}
}
