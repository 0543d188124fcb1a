package trail_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

// Drawn by parents alone, the story is one trace from the first root to the last end. A
// batch keeps one of its six causes, and the fan-in one of two.
func TestParents(t *testing.T) {
	s, by := happy(1)
	full := stitched(t, s)
	got := trail.Parents(full)
	if len(got.Lanes) != 1 || len(got.Lanes[0].Spans) != len(s.spans) || got.Duration != full.Duration || got.Lanes[0].Duration != full.Duration || !got.Complete {
		t.Fatalf("%d traces with %d spans that take %v; %v", len(got.Lanes), spanCount(got), got.Duration, got.Gaps)
	}
	if n := len(edges(got, trail.EdgeLink)); n != 0 {
		t.Errorf("%d links", n)
	}
	lost := map[string]int{}
	parents := map[string]string{}
	for _, n := range got.Lanes[0].Spans {
		lost[n.SpanID], parents[n.SpanID] = len(n.Lost), n.ParentID
	}
	for name, want := range map[string]int{"batch": 5, "fulfill": 1, "pay": 0, "due": 0, "fulfillment": 0} {
		if lost[refOf(by[name]).SpanID] != want {
			t.Errorf("%s loses %d causes, want %d", name, lost[refOf(by[name]).SpanID], want)
		}
	}
	if got.Lost != 6 {
		t.Errorf("%d causes are lost, want 6", got.Lost)
	}
	for child, parent := range map[string]string{"pay": "created", "fulfill": "fulfillment", "fulfillment": "confirmed", "batch": "created", "due": "deadline"} {
		if parents[refOf(by[child]).SpanID] != refOf(by[parent]).SpanID {
			t.Errorf("the parent of %s is not %s", child, parent)
		}
	}
	// The wait before an asynchronous child is nobody's work.
	wantPath(t, got.CriticalPath, 0, 30*time.Millisecond)
	if path(got.CriticalPath) != path(full.CriticalPath) {
		t.Errorf("the path is\n%s\nand was\n%s", path(got.CriticalPath), path(full.CriticalPath))
	}
}

// A consumer that is a child of its producer waits as one that links it.
func TestCriticalPathOfChildren(t *testing.T) {
	s := newStory(1)
	post := s.span("orders", "POST /orders", oteltrace.SpanKindServer, 0, 4)
	publish := s.publish(post, "deadlines.at", 1, 1.132)
	due := s.child(publish, "process deadlines.due", oteltrace.SpanKindConsumer, 3141, 3142)
	s.child(due, "work", oteltrace.SpanKindInternal, 3141.2, 3142)
	got := stitched(t, s)
	wantPath(t, got.CriticalPath, 0, 3142*time.Millisecond)
	if want := "orders: publish deadlines.at 132µs\nwait for orders: process deadlines.due 3.139868s"; !strings.Contains(path(got.CriticalPath), want) {
		t.Errorf("the path is\n%s", path(got.CriticalPath))
	}
}

// large is a story of 10,000 spans in 1,000 traces: a chain of ten fan-outs.
func large() trail.Spans {
	var found trail.Spans
	for i := range 1000 {
		id := fmt.Sprintf("%032x", i+1)
		for j := range 10 {
			at := time.Unix(1_800_000_000, int64(i/10*100+j)*1e6).UTC()
			s := trail.Span{
				Ref: trail.Ref{TraceID: id, SpanID: fmt.Sprintf("%016x", i*10+j+1)}, Service: fmt.Sprint("service ", i%7), Name: "work", Kind: "internal", Status: trail.StatusUnset,
				Start: at, End: at.Add(5e6), Attributes: trail.Attributes{"messaging.operation.type": "process", "n": int64(j)},
			}
			if j > 0 {
				s.ParentID = fmt.Sprintf("%016x", i*10+1)
			} else if i > 0 {
				last := (i-1)/10*100 + 9 // the last span of every tenth trace
				s.Links = []trail.Link{{Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", last/10+1), SpanID: fmt.Sprintf("%016x", last+1)}, Attributes: trail.Attributes{"link.relationship": "triggered_by"}}}
			}
			found.Spans = append(found.Spans, s)
		}
	}
	slices.Reverse(found.Spans)
	return found
}

// The critical path of a large story is complete: it has no gaps from the first span to
// the last.
func TestLarge(t *testing.T) {
	found := large()
	got := trail.Stitch(found, trail.Options{}, found.Spans[5000].Ref)
	if len(got.Lanes) != 1000 || spanCount(got) != 10_000 || !got.Complete {
		t.Fatalf("%d spans in %d traces: %v", spanCount(got), len(got.Lanes), got.Gaps)
	}
	wantPath(t, got.CriticalPath, 0, got.Duration)
	if parents := trail.Parents(got); spanCount(parents) != 10_000 || parents.Duration != got.Duration || len(parents.Lanes) != 1 || parents.Lost != 0 {
		t.Errorf("by parents: %d spans in %d traces, %d causes lost", spanCount(parents), len(parents.Lanes), parents.Lost)
	}
}

// longChain is a chain of traces with one span each, which links two before.
func longChain(hops int) trail.Spans {
	found := trail.Spans{Spans: []trail.Span{numbered(0)}}
	for n := 1; n < hops; n++ {
		found.Spans = append(found.Spans, numbered(n, n-1, max(n-3, 0)))
	}
	return found
}

// Time and memory grow with a story, not with its square, also for one that is all depth.
func TestLongChain(t *testing.T) {
	const hops = 20_000
	story := trail.Stitch(longChain(hops), trail.Options{}, numbered(0).Ref)
	done := make(chan *trail.Story)
	go func() {
		parents := trail.Parents(story)
		for _, s := range []*trail.Story{story, parents} {
			if err := trail.Write(io.Discard, "chain", s, trail.WriteOptions{}); err != nil {
				t.Error(err)
			}
		}
		done <- parents
	}()
	select {
	case parents := <-done:
		if n := spanCount(parents); n != hops || len(parents.Lanes) != 1 || parents.Lost != 0 {
			t.Errorf("by parents: %d spans in %d traces, %d causes lost", n, len(parents.Lanes), parents.Lost)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it takes longer than 10 s")
	}
}

// BenchmarkStitch stitches a story of 10,000 spans in 1,000 traces.
func BenchmarkStitch(b *testing.B) {
	found := large()
	for b.Loop() {
		trail.Stitch(found, trail.Options{}, found.Spans[5000].Ref)
	}
}

// chain is a store with a chain of traces, each of which links the one before.
func chain(hops int) *trail.Store {
	store := trail.NewStore(0)
	store.Add(numbered(0))
	for n := 1; n < hops; n++ {
		store.Add(numbered(n, n-1))
	}
	return store
}

// The whole of a chain is found, from either end.
func TestChain(t *testing.T) {
	const hops = 300
	for _, start := range []int{0, hops - 1} {
		s, err := trail.Build(t.Context(), chain(hops), trail.Options{}, numbered(start).Ref)
		if err != nil || len(s.Lanes) != hops || !s.Complete {
			t.Errorf("from %d: %v, %+v", start, err, s)
		}
	}
}

// The search does not go beyond a span whose different value it learns on its way.
func TestSearchEndsAtOtherValues(t *testing.T) {
	valued := func(v string, s trail.Span) trail.Span { s.Attributes["k"] = v; return s }
	store := trail.NewStore(0)
	store.Add(numbered(0), valued("1", numbered(1, 0, 2)), valued("2", numbered(2, 3)), valued("2", numbered(3)))
	found, err := trail.Collect(t.Context(), store, trail.Options{Key: "k"}, numbered(0).Ref)
	if err != nil || len(found.Spans) != 3 {
		t.Errorf("%v: %+v, want spans 0, 1 and 2", err, found.Spans)
	}
}

// BenchmarkChain finds a chain of 500 traces, each with a question of its own.
func BenchmarkChain(b *testing.B) {
	store := chain(500)
	for b.Loop() {
		if _, err := trail.Collect(b.Context(), store, trail.Options{}, numbered(0).Ref); err != nil {
			b.Fatal(err)
		}
	}
}
