package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.org/ordertrail/trail"
)

// ask returns the answer of pages.
func ask(t *testing.T, p *pages, path, accept string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	p.handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// span returns the only span of the nth trace.
func span(n int) trail.Span {
	start := time.Unix(1_800_000_000, int64(n))
	return trail.Span{
		Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", n), SpanID: fmt.Sprintf("%016x", n)}, Service: "shop", Name: fmt.Sprint("span ", n),
		Kind: "internal", Status: trail.StatusUnset, Start: start, End: start.Add(time.Millisecond),
	}
}

// A list that is older than the newest span asks again by itself: no further event may come.
func TestListCatchesUp(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	list := func(want string, fresh bool) {
		t.Helper()
		_, page := ask(t, p, "/", browser)
		if !strings.Contains(page, want) || strings.Contains(page, `data-refresh="0"`) != fresh {
			_, refresh, _ := strings.Cut(page, "data-refresh=")
			t.Errorf("the list has %s: %t; it asks again after %.6s ms", want, strings.Contains(page, want), refresh)
		}
	}
	p.store.Add(span(1))
	list(">shop: span 1<", true)
	p.recent.at = time.Now().Add(time.Hour) // the interval does not end meanwhile
	p.store.Add(span(2))
	list(">shop: span 1<", false)
	p.recent.at = time.Time{}
	list(">shop: span 2<", true)
}

// A client that has gone leaves no short list to the others.
func TestListOfOneWhoLeft(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	p.store.Add(span(1), span(2), span(3))
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.recent.get(left, p.store, options{}); err == nil {
		t.Error("a list was made for a client that has gone")
	}
	if l, err := p.recent.get(t.Context(), p.store, options{}); err != nil || len(l.Stories) != 3 || l.More {
		t.Errorf("the next client gets %d stories, more: %t, %v", len(l.Stories), l.More, err)
	}
}

// slow is a source whose every answer takes longer than a list may.
type slow struct{ *trail.Store }

func (s slow) Traces(ctx context.Context, ids ...string) (trail.Spans, error) {
	select {
	case <-ctx.Done():
		return trail.Spans{}, ctx.Err()
	case <-time.After(2 * listTime):
		return s.Store.Traces(ctx, ids...)
	}
}

// The newest story is listed, however long it takes; the others are said to be left out.
func TestListHasTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := trail.NewStore(0)
		store.Add(span(1), span(2))
		ids, _ := store.RecentIDs(maxTraces)
		list, more, err := stories(t.Context(), slow{store}, ids, options{})
		if err != nil || !more || len(list) != 1 || list[0].Name != "shop: span 2" {
			t.Errorf("%+v, more: %t, %v", list, more, err)
		}
	})
}

// The page says that nothing has arrived only if that is so.
func TestWelcome(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	const welcome = "No traces have arrived yet"
	if _, page := ask(t, p, "/", browser); !strings.Contains(page, welcome) {
		t.Error("the empty page does not say what to do")
	}
	p.store.Add(span(1))
	p.recent.at = time.Now().Add(time.Hour) // the list stays empty
	if _, page := ask(t, p, "/", browser); strings.Contains(page, welcome) {
		t.Error("with a span, the page says: " + welcome)
	}
	s := serve(t)
	if _, _, page := get(t, s.page, browser); !strings.Contains(page, "OTEL_EXPORTER_OTLP_ENDPOINT="+s.http) {
		t.Error("the page does not name the address for traces, " + s.http)
	}
}

// A story that show reads from trail serve has the numbers that were sent.
func TestShowKeepsNumbers(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	s := span(1)
	s.Attributes = trail.Attributes{"large": int64(1234567890123456789), "round": int64(10_000_000)}
	p.store.Add(s)
	server := httptest.NewServer(p.handler())
	defer server.Close()
	file := filepath.Join(t.TempDir(), "story.html")
	for _, form := range [][]string{{"--json"}, {"--html", file}} {
		text, stderr, code := run(t, append([]string{"show", "--from", server.URL, s.TraceID}, form...)...)
		if html, err := os.ReadFile(file); err == nil {
			text += string(html)
		}
		if code != 0 || !strings.Contains(text, "1234567890123456789") || !strings.Contains(text, "10000000") {
			t.Errorf("show %s: %d %s; %s", form[0], code, stderr, regexp.MustCompile(`(?:<dt>|")(?:large|round)\b.{0,40}`).FindAllString(text, -1))
		}
	}
}

// A list reads the spans of the stories that it shows, and not those of all traces that it
// chooses from.
func TestListReadsLittle(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	const spans = 50
	for n := range maxTraces * spans {
		s := span(n + 1)
		s.TraceID = fmt.Sprintf("%032x", n/spans+1)
		s.Attributes = trail.Attributes{"long": fmt.Sprintf("%01000d", n), "k": "v"}
		p.store.Add(s)
	}
	for _, path := range []string{"/", "/?q=k%3Dv"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		code, text := ask(t, p, path, "application/json")
		runtime.ReadMemStats(&after)
		var got list
		if err := json.Unmarshal([]byte(text), &got); err != nil || code != http.StatusOK || len(got.Stories) == 0 || !got.More {
			t.Errorf("%s: %d, %d stories, more: %t, %v", path, code, len(got.Stories), got.More, err)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 40 {
			t.Errorf("%s takes %d MiB", path, mib)
		}
	}
}

// The story of a span that is not among those that are read of its trace is its trace's.
func TestSpanOfHugeTrace(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	for n := range 2*trail.DefaultMaxSpans + 10 {
		s := span(n + 1)
		s.TraceID = span(1).TraceID
		p.store.Add(s)
	}
	code, text := ask(t, p, "/stories/"+span(2*trail.DefaultMaxSpans+5).SpanID, "application/json")
	var got trail.Story
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != http.StatusOK || len(got.Lanes) != 1 || got.Complete {
		t.Errorf("%d, %d traces, complete: %t, %v", code, len(got.Lanes), got.Complete, err)
	}
}

// Requests that read spans wait for each other, beyond a few at a time. A client that reads
// its answer slowly, or has left, delays nobody.
func TestFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		h := fewAtATime()(func(w http.ResponseWriter, r *http.Request) {
			most.Store(max(most.Load(), running.Add(1)))
			<-time.After(time.Second) // of the test's clock
			running.Add(-1)
			w.Header().Set("X-Test", "1")
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(r.URL.Path))
		})
		block := make(chan bool)
		for range maxReads {
			go h.ServeHTTP(blockedWriter{httptest.NewRecorder(), block}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/slow", nil))
		}
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil))
				if w.Code != http.StatusAccepted || w.Body.String() != "/x" || w.Header().Get("X-Test") != "1" {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		group.Wait()
		if most.Load() != maxReads {
			t.Errorf("%d ran at a time, want %d", most.Load(), maxReads)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range maxReads {
			group.Go(func() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil))
			})
		}
		synctest.Wait()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ended, http.MethodGet, "/left", nil))
		if running.Load() != maxReads {
			t.Errorf("%d are running: the client that left has waited", running.Load())
		}
		close(block)
		group.Wait()
	})
}

// Answers that clients do not read take bounded memory.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := fewAtATime()(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, maxUnsent/2)) })
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		block := make(chan bool)
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() { h.ServeHTTP(blockedWriter{httptest.NewRecorder(), block}, r) })
		}
		synctest.Wait()
		refused := httptest.NewRecorder()
		h.ServeHTTP(refused, r)
		close(block)
		group.Wait()
		taken := httptest.NewRecorder()
		h.ServeHTTP(taken, r)
		if refused.Code != http.StatusServiceUnavailable || refused.Header().Get("Retry-After") == "" || taken.Code != http.StatusOK {
			t.Errorf("beyond the bound: %d; afterwards: %d", refused.Code, taken.Code)
		}
	})
}

// blockedWriter is a client that does not read.
type blockedWriter struct {
	*httptest.ResponseRecorder
	block chan bool
}

func (w blockedWriter) Write(b []byte) (int, error) {
	<-w.block
	return len(b), nil
}

// A request that names what does not exist has the status that fits, and the answer says what
// is wanted.
func TestWrongRequests(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	p.store.Add(span(1))
	story := "/stories/" + span(1).TraceID
	for _, tc := range []struct {
		path string
		code int
		want string
	}{
		{"/nonsense", 404, "the list of stories is at /"},
		{"/?q=a%3Db", 200, ""},
		{"/?q=nonsense", 400, "key=value"},
		{"/?q=%3Db", 400, "key=value"},
		{"/stories/xyz", 400, "a trace id has 32 hex digits"},
		{"/stories/" + span(2).TraceID, 404, "not sampled"},
		{story + "?view=links&span=" + span(2).SpanID + "&from=9&until=x&key=", 200, ""},
		{story + "?view=parents&from=0", 200, ""},
		{story + "?view=&span=&from=", 200, ""},
		{story + "?view=nonsense", 400, "views: links, parents"},
		{story + "?view=Parents", 400, "views: links, parents"},
		{story + "?span=nonsense", 400, "16 hex digits"},
		{story + "?from=nonsense", 400, "number of a row"},
		{story + "?from=-1", 400, "number of a row"},
	} {
		for _, accept := range []string{browser, "application/json"} {
			if code, body := ask(t, p, tc.path, accept); code != tc.code || !strings.Contains(body, tc.want) {
				t.Errorf("%s as %s: %d, want %d and %q: %.300s", tc.path, accept, code, tc.code, tc.want, body)
			}
		}
	}
}

// A link to a span of another story leads to that story.
func TestOtherStory(t *testing.T) {
	p := &pages{store: trail.NewStore(0), key: "tenant"}
	one, two := span(1), span(2)
	one.Attributes, two.Attributes = trail.Attributes{"tenant": "one"}, trail.Attributes{"tenant": "two"}
	two.Links = []trail.Link{{Ref: one.Ref}}
	p.store.Add(one, two)
	if _, page := ask(t, p, "/stories/"+two.TraceID, browser); !strings.Contains(page, `<a href="/stories/`+one.SpanID+`">`) {
		t.Error("the page of the one story does not lead to the other")
	}
}

// If no span of the name can end the critical path, show says why.
func TestUntil(t *testing.T) {
	p := &pages{store: trail.NewStore(0)}
	s, child := span(1), span(2)
	child.TraceID, child.ParentID, child.Name, child.Status = s.TraceID, s.SpanID, "charge", trail.StatusError
	child.End = child.Start // before its parent
	p.store.Add(s, child)
	server := httptest.NewServer(p.handler())
	defer server.Close()
	for name, want := range map[string]string{"span 1": "", "charge": `every span that is named "charge" failed`, "other": `no span of the story is named "other"`} {
		_, stderr, code := run(t, "show", "--from", server.URL, "--until", name, s.TraceID)
		if code != 0 || (want == "") != (stderr == "") || !strings.Contains(stderr, want) {
			t.Errorf("--until %q: %d %q, want %q", name, code, stderr, want)
		}
	}
}
