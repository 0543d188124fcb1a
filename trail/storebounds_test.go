package trail_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

// A search returns a bounded number of spans, those that start first, and reports that
// there are more. It finds the traces nevertheless.
func TestStoreReadsAreBounded(t *testing.T) {
	store := trail.NewStore(0)
	const n = 2*trail.DefaultMaxSpans + 1000
	id := func(trace, i int) trail.Ref {
		return trail.Ref{TraceID: fmt.Sprintf("%032x", trace), SpanID: fmt.Sprintf("%016x", i)}
	}
	for i := n; i > 0; i-- { // the first to start arrive last
		start := time.Unix(1_800_000_000, int64(i))
		store.Add(trail.Span{Ref: id(1, i), Start: start, End: start, Attributes: trail.Attributes{"k": "v"}})
	}
	store.Add(trail.Span{Ref: id(2, n+1), Links: []trail.Link{{Ref: id(1, 1)}}}, trail.Span{Ref: id(3, n+2), Attributes: trail.Attributes{"k": "v"}})
	linked := id(1, n).TraceID
	store.Add(trail.Span{Ref: id(1, n+3), Start: time.Unix(1_900_000_000, 0), Links: []trail.Link{{Ref: id(2, n+1)}}})
	for name, search := range map[string]func() (trail.Spans, error){
		"Traces":  func() (trail.Spans, error) { return store.Traces(t.Context(), linked) },
		"Linking": func() (trail.Spans, error) { return store.Linking(t.Context(), id(2, 0).TraceID) },
		"Find":    func() (trail.Spans, error) { return store.Find(t.Context(), "k", "v", 5) },
		"Recent":  func() (trail.Spans, error) { return store.Recent(t.Context(), 5) },
	} {
		found, err := search()
		if err != nil || !found.Truncated || len(found.Spans) != 2*trail.DefaultMaxSpans {
			t.Errorf("%s: %d spans of %d, truncated: %t, %v", name, len(found.Spans), n, found.Truncated, err)
		}
		if slices.ContainsFunc(found.Spans, func(s trail.Span) bool { return s.SpanID == id(1, n).SpanID }) {
			t.Errorf("%s: the span that starts last is among them", name)
		}
	}
	if found, err := store.Traces(t.Context(), id(2, 0).TraceID); err != nil || found.Truncated || len(found.Spans) != 1 {
		t.Errorf("a small trace: %d spans, truncated: %t, %v", len(found.Spans), found.Truncated, err)
	}
	if ids, more := store.RecentIDs(2); !more || !slices.Equal(ids, []string{id(3, 0).TraceID, id(2, 0).TraceID}) {
		t.Errorf("the newest two ids: %q, more: %t", ids, more)
	}
	if ids, more := store.RecentIDs(3); more || len(ids) != 3 {
		t.Errorf("all ids: %q, more: %t", ids, more)
	}
	for traces, want := range map[int]bool{1: true, 2: false} {
		if ids, more, err := store.FindIDs(t.Context(), "k", "v", traces); err != nil || more != want || len(ids) != traces || ids[0] != id(3, 0).TraceID {
			t.Errorf("%d ids with an attribute: %q, more: %t, %v", traces, ids, more, err)
		}
	}
	if found, err := store.Recent(t.Context(), 2); err != nil || !found.Truncated || len(found.Spans) != 2 {
		t.Errorf("the newest two of three traces: %d spans, truncated: %t, %v", len(found.Spans), found.Truncated, err)
	}
}
