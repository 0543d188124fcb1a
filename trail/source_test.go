package trail_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"example.org/ordertrail/test/backends"
	"example.org/ordertrail/trail"
)

// ever is how far back the tests' searches look.
const ever = 100 * 365 * 24 * time.Hour

// sources returns every kind of source, each with the same spans, which arrive in the order
// given. Jaeger scans everything.
func sources(t testing.TB, spans []trail.Span) map[string]trail.Source {
	t.Helper()
	store := trail.NewStore(0)
	if refused := store.Add(spans...); refused > 0 {
		t.Fatalf("%d spans are refused", refused)
	}
	jaeger := trail.NewJaeger(backends.Jaeger(t, spans))
	jaeger.Since, jaeger.Scan = ever, 1500
	tempo := trail.NewTempo(backends.Tempo(t, spans))
	tempo.Since = ever
	file, err := trail.OpenFile(backends.File(t, spans))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]trail.Source{"store": store, "Jaeger": jaeger, "Tempo": tempo, "file": file}
}

// linked returns spans of n traces, of which each has a root and a child, and links two
// traces before it, with and without attributes.
func linked(n int) (spans []trail.Span) {
	id := func(i, span int) trail.Ref {
		return trail.Ref{TraceID: fmt.Sprintf("%032x", i+1), SpanID: fmt.Sprintf("%016x", 10*i+span+1)}
	}
	for i := range n {
		start := epoch.Add(time.Duration(i) * time.Second)
		root := trail.Span{
			Ref: id(i, 0), Service: fmt.Sprintf("service-%d", i%3), Name: "work", Kind: "consumer", Start: start, End: start.Add(time.Second), Status: trail.StatusUnset,
			Attributes: trail.Attributes{"text": fmt.Sprintf("value-%d", i), "all": "same", "number": int64(i), "yes": i%2 == 0, "ratio": float64(i) + 0.5},
		}
		for _, back := range []int{1, 5} {
			if i >= back {
				l := trail.Link{Ref: id(i-back, 1)}
				if i%2 == 0 {
					l.Attributes = trail.Attributes{"link.trace_id": l.TraceID, "of": fmt.Sprintf("link-%d", i-back)}
				}
				root.Links = append(root.Links, l)
			}
		}
		child := trail.Span{
			Ref: id(i, 1), ParentID: root.SpanID, Service: root.Service, Name: "publish", Kind: "producer", Start: start.Add(time.Millisecond), End: start.Add(2 * time.Millisecond),
			Status: trail.StatusError, StatusMessage: "it failed", DroppedLinks: i % 4,
			Events: []trail.Moment{{Name: "exception", Time: start, Attributes: trail.Attributes{"exception.type": "timeout"}}},
		}
		spans = append(spans, root, child)
	}
	return spans
}

// Every source returns the same spans for the same questions.
func TestSources(t *testing.T) {
	all := linked(40)
	traces := func(ids ...int) (spans []trail.Span) {
		for _, i := range ids {
			spans = append(spans, all[2*i:2*i+2]...)
		}
		return spans
	}
	id := func(i int) string { return all[2*i].TraceID }
	for name, source := range sources(t, all) {
		t.Run(name, func(t *testing.T) {
			check := func(what string, found trail.Spans, err error, want []trail.Span) {
				t.Helper()
				byRef := func(a, b trail.Span) int { return cmp.Compare(a.TraceID+a.SpanID, b.TraceID+b.SpanID) }
				got, want := slices.SortedFunc(slices.Values(found.Spans), byRef), slices.SortedFunc(slices.Values(want), byRef)
				if err != nil || len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %d spans, want %d: %v\n%+v\n%+v", what, len(got), len(want), err, got, want)
				}
			}
			ask := func(what string, want []trail.Span) func(trail.Spans, error) {
				t.Helper()
				return func(found trail.Spans, err error) { t.Helper(); check(what, found, err, want) }
			}
			ctx, unknown := t.Context(), strings.Repeat("f", 32)
			ask("no traces", nil)(source.Traces(ctx))
			ask("an unknown trace", nil)(source.Traces(ctx, unknown))
			ask("traces", traces(3, 7))(source.Traces(ctx, id(7), unknown, id(3)))
			ask("linking", traces(4, 8))(source.Linking(ctx, id(3)))
			ask("linking two", traces(4, 8, 5, 9))(source.Linking(ctx, id(3), id(4)))
			ask("linking many", traces(slices.Collect(maps.Keys(mapOf(1, 40)))...))(source.Linking(ctx, ids(all)...))
			ask("linking the last", nil)(source.Linking(ctx, id(39)))
			ask("linking nothing", nil)(source.Linking(ctx, unknown))
			ask("a text", traces(12))(source.Find(ctx, "text", "value-12", 10))
			ask("a number", traces(12))(source.Find(ctx, "number", "12", 10))
			ask("a fraction", traces(12))(source.Find(ctx, "ratio", "12.5", 10))
			ask("a link's", traces(8, 12))(source.Find(ctx, "of", "link-7", 10))
			ask("a service's", traces(1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37))(source.Find(ctx, "service.name", "service-1", 20))
			ask("an unknown service", nil)(source.Find(ctx, "service.name", "service", 10))
			ask("an unknown value", nil)(source.Find(ctx, "text", "value", 10))
			ask("an unknown key", nil)(source.Find(ctx, "other", "value-12", 10))
			newest, err := source.Find(ctx, "all", "same", 2)
			check("the newest", newest, err, traces(38, 39))
			if !newest.Truncated {
				t.Error("the answer is cut without notice")
			}
			ask("recent", traces(37, 38, 39))(source.Recent(ctx, 3))
			for i := range 3 {
				if of, err := source.TraceOf(ctx, all[2*i+1].SpanID); of != id(i) || err != nil {
					t.Errorf("the trace of a span: %s, %v", of, err)
				}
			}
			if _, err := source.TraceOf(ctx, "ffffffffffffffff"); !errors.Is(err, map[bool]error{true: trail.ErrUnsupported, false: trail.ErrNotFound}[name == "Jaeger"]) {
				t.Errorf("the trace of an unknown span: %v", err)
			}
			var group sync.WaitGroup
			for i := range 4 {
				group.Go(func() { ask("at once", traces(10+i))(source.Traces(ctx, id(10+i))) })
			}
			group.Wait()
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := source.Find(ended, "text", "value-12", 10); !errors.Is(err, context.Canceled) {
				t.Errorf("after the context's end: %v", err)
			}
		})
	}
}

func mapOf(from, to int) map[int]bool {
	m := map[int]bool{}
	for i := from; i < to; i++ {
		m[i] = true
	}
	return m
}

func ids(spans []trail.Span) (all []string) {
	for _, s := range spans {
		all = append(all, s.TraceID)
	}
	return slices.Compact(all)
}

// Jaeger finds links by their attribute alone; others need a scan, which is reported if there
// are more traces than it reads.
func TestJaegerScan(t *testing.T) {
	all := linked(20)
	at := backends.Jaeger(t, all)
	source := trail.NewJaeger(at)
	source.Since = ever
	found, err := source.Linking(t.Context(), all[6].TraceID) // 4 and 8 link it, both with the attribute
	if err != nil || len(found.Spans) != 4 || found.Partial != "" {
		t.Errorf("without a scan: %d spans, %q, %v", len(found.Spans), found.Partial, err)
	}
	if found, err = source.Linking(t.Context(), all[4].TraceID); err != nil || len(found.Spans) != 0 { // 3 and 7: without it
		t.Errorf("without a scan: %d spans, %v", len(found.Spans), err)
	}
	source = trail.NewJaeger(at)
	source.Since, source.Scan = ever, 15 // traces 5 to 19
	found, err = source.Linking(t.Context(), all[4].TraceID)
	if err != nil || len(found.Spans) != 2 || !strings.Contains(found.Partial, "newest 15 traces") {
		t.Errorf("with a scan: %d spans, %q, %v", len(found.Spans), found.Partial, err)
	}
	if _, err := source.TraceOf(t.Context(), all[0].SpanID); !errors.Is(err, trail.ErrUnsupported) {
		t.Errorf("a span that the scan did not read: %v", err)
	}
	// Links in older traces may lack the attribute, whatever those of the newer ones have.
	for i := range all {
		for j, l := range all[i].Links {
			all[i].Links[j].Attributes = trail.Attributes{"link.trace_id": l.TraceID}
		}
	}
	source = trail.NewJaeger(backends.Jaeger(t, all))
	source.Since, source.Scan = ever, 15
	if found, err = source.Linking(t.Context(), all[4].TraceID); err != nil || len(found.Spans) != 4 || !strings.Contains(found.Partial, "newest 15 traces") {
		t.Errorf("with the attribute: %d spans, %q, %v", len(found.Spans), found.Partial, err)
	}
	// A scan of everything leaves nothing out.
	source = trail.NewJaeger(at)
	source.Since, source.Scan = ever, 21
	if found, err = source.Linking(t.Context(), all[4].TraceID); err != nil || len(found.Spans) != 4 || found.Partial != "" {
		t.Errorf("all traces are scanned: %d spans, %q, %v", len(found.Spans), found.Partial, err)
	}
}

// A file that is not OTLP JSON is refused with the number of the line.
func TestFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{}\n\n{\"resourceSpans\":[]}\n": "",
		"":                               "",
		"{}\nnonsense\n":                 "line 2 is not OTLP JSON",
		"{\"resourceSpans\":5}":          "line 1 is not OTLP JSON",
		"{}\n{\"resourceSpans\":5":       "", // it is being written
		"{}\n" + strings.Repeat("[", 1000) + "\n": "line 2 cannot be read: values are nested",
		"\x1f\x8bnonsense":                        "gzip",
	} {
		_, err := trail.ReadFile(strings.NewReader(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
	if _, err := trail.OpenFile("testdata/none"); err == nil || !strings.Contains(err.Error(), "testdata/none") {
		t.Errorf("no file: %v", err)
	}
}

// A gzipped file that is cut or damaged is refused, with its name and what to do.
func TestFileDamaged(t *testing.T) {
	var whole bytes.Buffer
	zip := gzip.NewWriter(&whole)
	_, err := zip.Write([]byte(strings.Repeat("{}\n", 1000)))
	if err = errors.Join(err, zip.Close()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"cut header":   whole.Bytes()[:5],
		"cut data":     whole.Bytes()[:whole.Len()/2],
		"cut checksum": whole.Bytes()[:whole.Len()-1],
		"damaged":      append(bytes.Clone(whole.Bytes()[:whole.Len()-8]), make([]byte, 8)...),
	} {
		file := filepath.Join(t.TempDir(), "traces.gz")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := trail.OpenFile(file); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "cut or damaged: copy it again") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A story from a file that is being written says that its end is missing.
func TestFileIsWritten(t *testing.T) {
	spans := linked(2)
	text, err := new(ptrace.JSONMarshaler).MarshalTraces(backends.OTLP(spans))
	if err != nil {
		t.Fatal(err)
	}
	store, err := trail.ReadFile(strings.NewReader(string(text) + "\n" + string(text[:len(text)/2])))
	if err != nil {
		t.Fatal(err)
	}
	story, err := trail.Build(t.Context(), store, trail.Options{}, spans[0].Ref)
	if err != nil || len(story.Lanes) != 2 || len(story.Gaps) == 0 || !strings.Contains(story.Gaps[0].Detail, "line of the file, 2, is cut") {
		t.Errorf("%v: %+v", err, story.Gaps)
	}
}

// A server that is not Tempo has no traces, which is not the same as a trace that Tempo
// does not have.
func TestNotTempo(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trail.Build(t.Context(), trail.NewTempo(base), trail.Options{}, linked(1)[0].Ref); !errors.Is(err, trail.ErrUnavailable) || !strings.Contains(err.Error(), "no search API") {
		t.Errorf("%v", err)
	}
}
