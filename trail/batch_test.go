package trail_test

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"example.org/ordertrail/trail"
)

// numbered is span n in trace n, named after it, which links others.
func numbered(n int, links ...int) trail.Span {
	ref := func(n int) trail.Ref {
		return trail.Ref{TraceID: fmt.Sprintf("%032x", n+1), SpanID: fmt.Sprintf("%016x", n+1)}
	}
	at := time.Unix(1_800_000_000, int64(n)*1e6)
	s := trail.Span{Ref: ref(n), Service: "a", Name: fmt.Sprint(n), Start: at, End: at.Add(1e6), Attributes: trail.Attributes{}}
	for _, l := range links {
		s.Links = append(s.Links, trail.Link{Ref: ref(l), Attributes: trail.Attributes{}})
	}
	return s
}

func batchOf(s trail.Span) trail.Span {
	s.Kind, s.Attributes["messaging.batch.message_count"] = "consumer", int64(max(2, len(s.Links)))
	return s
}

// drawn returns the names of a story's spans, borders in brackets.
func drawn(s *trail.Story) string {
	var names []string
	for _, l := range s.Lanes {
		for _, n := range l.Spans {
			if n.Batch != nil && n.Batch.Boundary {
				names = append(names, "("+n.Name+")")
			} else {
				names = append(names, n.Name)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// A batch that follows a batch of two orders does not merge them.
func TestBatchAfterBatch(t *testing.T) {
	valued := func(s trail.Span, values ...string) trail.Span {
		for i, v := range values {
			s.Links[i].Attributes["k"] = v
		}
		return s
	}
	one, two := numbered(0), numbered(1)
	one.Attributes["k"], two.Attributes["k"] = "1", "2"
	child := numbered(4)
	first := valued(batchOf(numbered(2, 0, 1)), "1", "2")
	child.TraceID, child.ParentID = first.TraceID, first.SpanID
	second := valued(batchOf(numbered(3, 2, 2)), "1", "2")
	found := trail.Spans{Spans: []trail.Span{one, two, first, second, child}}
	o := trail.Options{Key: "k"}
	if got := drawn(trail.Stitch(found, o, one.Ref)); got != "(2) (3) 0" {
		t.Errorf("from an order: %s", got)
	}
	for _, batch := range []trail.Span{first, second} {
		if s := trail.Stitch(found, o, batch.Ref); len(s.Stories) != 2 || s.Stories[0].Ref != one.Ref || s.Stories[1].Ref != two.Ref {
			t.Errorf("from batch %s: %s; these stories meet: %+v", batch.Name, drawn(s), s.Stories)
		}
	}
	// Without values, too: the second batch links the first, and another story.
	other := numbered(5)
	found.Spans = []trail.Span{numbered(0), numbered(1), other, batchOf(numbered(2, 0, 1)), batchOf(numbered(3, 2, 5))}
	if s := trail.Stitch(found, trail.Options{}, second.Ref); len(s.Stories) != 3 {
		t.Errorf("without values: %s; these stories meet: %+v", drawn(s), s.Stories)
	}
}

// A batch is shown apart from the stories that meet in it. Their spans are not called
// missing.
func TestElsewhere(t *testing.T) {
	found := trail.Spans{Spans: []trail.Span{numbered(0), numbered(1), batchOf(numbered(2, 0, 1))}}
	var out strings.Builder
	if err := trail.Write(&out, "t", trail.Stitch(found, trail.Options{}, numbered(2).Ref), trail.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "(not in this story") != 2 || strings.Contains(got, "missing") {
		t.Error(got)
	}
}

// Of a batch of very many messages, the first stories are listed, and nothing that the
// source has is called missing.
func TestLargeBatch(t *testing.T) {
	store := trail.NewStore(0)
	var links []int
	for n := range 500 {
		store.Add(numbered(n))
		links = append(links, n)
	}
	b := batchOf(numbered(500, links...))
	store.Add(b)
	s, err := trail.Build(t.Context(), store, trail.Options{}, b.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Stories) != 100 || len(s.Gaps) != 1 || s.Gaps[0].Kind != trail.GapTruncated {
		t.Errorf("%d stories and %d gaps, the first is %+v", len(s.Stories), len(s.Gaps), s.Gaps[0])
	}
	if alone := trail.Parents(s); len(alone.Stories) != 100 {
		t.Errorf("drawn by parents alone, %d stories meet", len(alone.Stories))
	}
}

// A batch that links nothing says that its messages are not known.
func TestBatchWithoutLinks(t *testing.T) {
	b, child := batchOf(numbered(0)), numbered(1)
	child.TraceID, child.ParentID = b.TraceID, b.SpanID
	s := trail.Stitch(trail.Spans{Spans: []trail.Span{b, child}}, trail.Options{}, trail.Ref{TraceID: b.TraceID})
	if s.Complete || len(s.Gaps) != 1 || s.Gaps[0].Kind != trail.GapLinksDropped {
		t.Errorf("complete: %t, gaps: %+v", s.Complete, s.Gaps)
	}
}

// Many batches below one span take bounded memory.
func TestManyBatches(t *testing.T) {
	var found trail.Spans
	root := numbered(0)
	found.Spans = append(found.Spans, root)
	for n := 1; n <= 60; n++ {
		var links []int
		for l := range 100 {
			links = append(links, 1000*n+l)
			found.Spans = append(found.Spans, numbered(1000*n+l))
		}
		b := batchOf(numbered(n, links...))
		b.TraceID, b.ParentID = root.TraceID, root.SpanID
		found.Spans = append(found.Spans, b)
	}
	store := trail.NewStore(0)
	store.Add(found.Spans...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := trail.Build(t.Context(), store, trail.Options{}, root.Ref)
	runtime.ReadMemStats(&after)
	if err != nil || len(s.Lanes) == 0 {
		t.Fatal(s, err)
	}
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 200 { // it was 1,400
		t.Errorf("it took %d MiB", used)
	}
}

// Numbers that JSON does not have become text.
func TestNotFinite(t *testing.T) {
	traces := ptrace.NewTraces()
	span := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	span.SetTraceID([16]byte{1})
	span.SetSpanID([8]byte{1})
	span.Attributes().PutDouble("ratio", math.NaN())
	span.Attributes().PutDouble("most", math.Inf(1))
	for s := range trail.FromOTLP(traces) {
		text, err := json.Marshal(trail.Stitch(trail.Spans{Spans: []trail.Span{s}}, trail.Options{}, s.Ref))
		if err != nil || !strings.Contains(string(text), `"NaN"`) || !strings.Contains(string(text), `"+Inf"`) {
			t.Errorf("%v: %s", err, text)
		}
	}
}
