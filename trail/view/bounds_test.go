package view

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

// spanOf returns the only span of the nth trace, which links others.
func spanOf(n int, links ...int) trail.Span {
	ref := func(n int) trail.Ref {
		return trail.Ref{TraceID: fmt.Sprintf("%032x", n), SpanID: fmt.Sprintf("%016x", n)}
	}
	start := time.Unix(1_800_000_000, int64(n)*1e6)
	s := trail.Span{Ref: ref(n), Service: "shop", Name: "work", Kind: "internal", Status: trail.StatusUnset, Start: start, End: start.Add(ms), Attributes: trail.Attributes{}}
	for _, l := range links {
		s.Links = append(s.Links, trail.Link{Ref: ref(l), Attributes: trail.Attributes{"link.relationship": "triggered_by", "link.event_type": fmt.Sprint("event ", n)}})
	}
	return s
}

// A page stays below 1 MB, whatever a story has much of, and counts what it leaves out.
func TestPageIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long ", 2000)
	rows := func(change func(i int, s *trail.Span)) []trail.Span {
		spans := []trail.Span{spanOf(1)}
		for i := 2; i <= rowsShown; i++ {
			s := spanOf(i, i-1)
			change(i, &s)
			spans = append(spans, s)
		}
		return spans
	}
	for name, tc := range map[string]struct {
		spans []trail.Span
		query string
		want  string // what the page says of the rest
	}{
		"gaps": {spans: rows(func(i int, s *trail.Span) {
			for n := range 30 {
				s.Links = append(s.Links, spanOf(0, 10_000+100*i+n).Links[0])
				s.Links[n+1].Attributes["link.trace_id"] = "x" // known instrumentation
			}
		}), want: "<li>and 8870 more"},
		"messages": {spans: rows(func(_ int, s *trail.Span) { s.Status, s.StatusMessage = trail.StatusError, long })},
		"errors": {spans: rows(func(_ int, s *trail.Span) {
			s.Status, s.Attributes["error.type"] = trail.StatusError, long
		})},
		"names":         {spans: rows(func(_ int, s *trail.Span) { s.Name = long })},
		"services":      {spans: rows(func(i int, s *trail.Span) { s.Service = fmt.Sprint(i, long) })},
		"relationships": {spans: rows(func(_ int, s *trail.Span) { s.Links[0].Attributes["link.relationship"] = long })},
		"events": {spans: rows(func(i int, s *trail.Span) {
			s.Service, s.Links[0].Attributes["link.event_type"] = fmt.Sprint("service ", i), long
		})},
		"arrows":       {spans: net(), want: "21900 more arrows"},
		"lost":         {spans: net(), query: "view=parents"},
		"many traces":  {spans: manyServices(), want: "other services"},
		"large value":  {spans: rows(func(_ int, s *trail.Span) { s.Attributes["k"] = strings.Repeat(long, 200) }), query: "span=" + spanOf(9).SpanID, want: "long …"},
		"large values": {spans: rows(func(i int, s *trail.Span) { fill(s.Attributes, i) }), query: "span=" + spanOf(9).SpanID, want: "<dt>and 1"},
		"many moments": {spans: rows(func(i int, s *trail.Span) {
			if i != 9 {
				return
			}
			s.Events = make([]trail.Moment, 50_000)
			for i := range s.Events {
				s.Events[i] = trail.Moment{Name: "retried"}
			}
		}), query: "span=" + spanOf(9).SpanID, want: "more event"},
		"link's attributes": {spans: rows(func(i int, s *trail.Span) { fill(s.Links[0].Attributes, i) }), query: "span=" + spanOf(9).SpanID},
	} {
		t.Run(name, func(t *testing.T) {
			story := trail.Stitch(trail.Spans{Spans: tc.spans}, trail.Options{}, tc.spans[0].Ref)
			query, err := url.ParseQuery(tc.query)
			if err != nil {
				t.Fatal(err)
			}
			page := rendered(t, New(story, read(t, query)))
			if len(page) > 1_000_000 || strings.Count(page, `<article`) < 100 {
				t.Errorf("the page has %d bytes and %d spans of %d", len(page), strings.Count(page, `<article`), len(tc.spans))
			}
			if !strings.Contains(page, tc.want) {
				t.Errorf("the page does not say %q", tc.want)
			}
		})
	}
}

// fill adds many attributes to one row, and some to others.
func fill(as trail.Attributes, row int) {
	n := 100
	if row == 9 {
		n = 20_000
	}
	for i := range n {
		as[fmt.Sprint("key ", i)] = strings.Repeat("v", 30)
	}
}

// net returns 150 spans, each of which links the same 150 spans.
func net() (spans []trail.Span) {
	var links []int
	for i := range 150 {
		links = append(links, i+1)
		spans = append(spans, spanOf(i+1))
	}
	for i := range 150 {
		spans = append(spans, spanOf(151+i, links...))
	}
	return spans
}

// manyServices returns a chain of 5,000 traces of as many services.
func manyServices() (spans []trail.Span) {
	for i := range 5000 {
		s := spanOf(i+1, max(1, i))
		s.Service = fmt.Sprint("service ", i)
		spans = append(spans, s)
	}
	return spans
}
