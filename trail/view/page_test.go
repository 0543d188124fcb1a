package view

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

func rendered(t *testing.T, p *Page) string {
	t.Helper()
	all, err := template.New("").Funcs(Functions).ParseFS(Templates, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := all.ExecuteTemplate(&text, "story", p); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// large is a story of 10,000 spans in 1,000 traces, a chain with long attributes.
func large() *trail.Story {
	var found trail.Spans
	for i := range 10_000 {
		start := time.Unix(1_800_000_000, int64(i)*1e6)
		s := trail.Span{
			Ref:     trail.Ref{TraceID: fmt.Sprintf("%032x", i/10+1), SpanID: fmt.Sprintf("%016x", i+1)},
			Service: fmt.Sprint("service ", i/10%7), Name: "work", Kind: "internal", Status: trail.StatusUnset, Start: start, End: start.Add(ms),
			Attributes: trail.Attributes{"long": strings.Repeat("x", 5000), "number": int64(i)},
		}
		if i%10 > 0 {
			s.ParentID = fmt.Sprintf("%016x", i/10*10+1)
		} else if i > 0 {
			s.Links = []trail.Link{{Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", i/10), SpanID: fmt.Sprintf("%016x", i)}}}
		}
		found.Spans = append(found.Spans, s)
	}
	return trail.Stitch(found, trail.Options{}, found.Spans[0].Ref)
}

func read(t *testing.T, query url.Values) Options {
	t.Helper()
	o, err := Options{}.Read(query)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The page of a large story stays below 1 MB in all views. Its axis covers all spans, and
// every span is within reach.
func TestLargePage(t *testing.T) {
	t.Parallel()
	story := large()
	last := fmt.Sprintf("%016x", 10_000)
	for _, query := range []string{"", "from=301", "from=9901", "from=99999", "view=parents", "view=parents&from=5101", "span=" + last, "span=" + strings.Repeat("f", 16)} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		p := New(story, read(t, values))
		page := rendered(t, p)
		if size := len(page); size > 1_000_000 || size < 20_000 {
			t.Errorf("?%s has %d bytes", query, size)
		}
		end := 0.0
		for _, b := range p.Waterfall.Bars {
			end = max(end, number(t, b.X)+number(t, b.Width))
		}
		if end < 99 {
			t.Errorf("?%s: the last bar ends at %g %%", query, end)
		}
		if strings.HasPrefix(query, "span="+last) && (!strings.Contains(page, `id="row-`+last+`"`) || !strings.Contains(page, "<dd>9999")) {
			t.Errorf("?%s does not show the span", query)
		}
	}
	seen := map[string]bool{}
	for _, window := range New(story, Options{}).Waterfall.Windows {
		for _, b := range New(story, Options{From: window.From}).Waterfall.Bars {
			seen[b.SpanID] = true
		}
	}
	if len(seen)-1 != 10_000 { // one more for the bars of the hidden spans
		t.Errorf("the windows show %d spans", len(seen)-1)
	}
}

// A span that thousands of others link, or that links thousands, has a page that can be
// read: it names some, and counts the rest.
func TestManyLinks(t *testing.T) {
	t.Parallel()
	const n = 3000
	ref := func(i int) trail.Ref {
		return trail.Ref{TraceID: fmt.Sprintf("%032x", i+1), SpanID: fmt.Sprintf("%016x", i+1)}
	}
	start := time.Unix(1_800_000_000, 0)
	found := trail.Spans{Spans: []trail.Span{{Ref: ref(0), Service: "shop", Name: "publish", Start: start, End: start.Add(ms)}}}
	last := trail.Span{Ref: ref(n + 1), Service: "reports", Name: "sum up", Start: start.Add(2 * ms), End: start.Add(3 * ms)}
	for i := 1; i <= n; i++ {
		found.Spans = append(found.Spans, trail.Span{Ref: ref(i), Service: "pay", Name: "process", Start: start.Add(ms), End: start.Add(2 * ms), Links: []trail.Link{{Ref: ref(0)}}})
		last.Links = append(last.Links, trail.Link{Ref: ref(i)})
	}
	found.Spans = append(found.Spans, last)
	page := rendered(t, New(trail.Stitch(found, trail.Options{}, ref(0)), read(t, url.Values{"span": {last.SpanID}})))
	if n := strings.Count(page, "<li>and 2900 more"); n != 1 {
		t.Errorf("%d spans led to more than are named, want 1", n)
	}
	if n := strings.Count(page, `<li class="cause">and 2900 more`); n != 1 {
		t.Errorf("%d spans link more than are named, want 1", n)
	}
	if len(page) > 1_000_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

// The view of parents alone shows the services of its rows, the arrows to asynchronous
// children, all depths, and the lost causes with their number and names.
func TestParentsPage(t *testing.T) {
	t.Parallel()
	at := func(i int) time.Time { return time.Unix(1_800_000_000, int64(i)*1e6).UTC() }
	span := func(i, trace int, service string, parent int, links ...int) trail.Span {
		s := trail.Span{Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", trace), SpanID: fmt.Sprintf("%016x", i)}, Service: service, Name: fmt.Sprint("step ", i), Kind: "internal", Status: trail.StatusUnset, Start: at(10 * i), End: at(10*i + 5)}
		if parent > 0 {
			s.ParentID = fmt.Sprintf("%016x", parent)
		}
		for _, l := range links {
			s.Links = append(s.Links, trail.Link{Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", l), SpanID: fmt.Sprintf("%016x", l)}, Attributes: trail.Attributes{"link.relationship": "triggered_by", "why": "because"}})
		}
		return s
	}
	found := trail.Spans{Spans: []trail.Span{span(1, 1, "shop", 0), span(2, 2, "pay", 0, 1), span(3, 3, "stock", 0, 1), span(4, 4, "ship", 0, 2, 3)}}
	for i := 5; i < 12; i++ {
		found.Spans = append(found.Spans, span(i, 4, "ship", i-1))
	}
	story := trail.Stitch(found, trail.Options{}, found.Spans[0].Ref)
	page := rendered(t, New(story, read(t, url.Values{"view": {"parents"}})))
	for _, want := range []string{
		"<strong>1 cause is lost</strong>", "ship: step 4</a> loses 1 cause", "loses 1 of 2 causes", "lost: triggered by", `class="arrow parent`,
		`aria-hidden="true"></span>ship</span>`, "depth-9", `<a href="?view=links">With links</a>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the view of parents does not show %s", want)
		}
	}
	if strings.Contains(page, `class="arrow link hue-`) {
		t.Error("the view of parents has links")
	}
	page = rendered(t, New(story, Options{}))
	for _, want := range []string{`<a href="?view=parents">`, "why=because", `class="arrow link hue-`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %s", want)
		}
	}
	if page := rendered(t, New(story, Options{Static: true})); strings.Contains(page, "?view") {
		t.Error("a page of one file links other views")
	}
}
