package trail

import (
	"fmt"
	"testing"
)

// Traces that are dropped leave nothing in the indexes, whatever links to what, and
// whatever arrived first.
func TestStoreForgets(t *testing.T) {
	store := NewStore(1 << 20)
	id := func(n int) Ref { return Ref{fmt.Sprintf("%032x", n), fmt.Sprintf("%016x", n)} }
	const n = 5000
	for i := 1; i < n; i++ {
		for _, span := range []Span{
			{Ref: id(i), Links: []Link{{Ref: id(n - i)}, {Ref: id(i)}, {Ref: id(n - i)}}}, // pairs, in both orders
			{Ref: id(n + i), Links: []Link{{Ref: id(n + i - 1)}, {}}},                     // a chain
			{Ref: id(2*n + i), Links: []Link{{Ref: id(3 * n)}, {Ref: id(1)}}},             // a hub that never arrives, and one that has gone
		} {
			store.Add(span)
		}
		if i == n-1 {
			found, err := store.Linking(t.Context(), id(3*n).TraceID, id(2*n-2).TraceID)
			if err != nil || len(found.Spans) < 100 || found.Spans[len(found.Spans)-1].Ref != id(2*n-1) {
				t.Errorf("%d spans link the hub and the chain: %v", len(found.Spans), err)
			}
		}
	}
	for i := range 2 * n { // they push out the others
		store.Add(Span{Ref: id(4*n + i)})
	}
	size := 0
	for _, trace := range store.traces {
		size += traceOverhead
		for _, packed := range trace.spans {
			size += spanOverhead + len(packed)
		}
		if len(trace.spans) == 0 || len(trace.links)+len(trace.linkedBy) > 0 {
			t.Fatalf("%+v is left", trace)
		}
	}
	if size != store.size || len(store.spans) != len(store.byAge) || len(store.traces) != len(store.byAge) {
		t.Errorf("%d bytes, want %d; %d spans and %d traces of %d", store.size, size, len(store.spans), len(store.traces), len(store.byAge))
	}
}
