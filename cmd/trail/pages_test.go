package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
		found, err := store.Recent(t.Context(), maxTraces)
		if err != nil {
			t.Fatal(err)
		}
		list, more, err := stories(t.Context(), slow{store}, found, options{})
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
