package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
