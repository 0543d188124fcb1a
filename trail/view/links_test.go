package view

import (
	"regexp"
	"strings"
	"testing"

	"example.org/ordertrail/trail"
)

// A span shows its links in both directions with all their attributes. A span that has no
// row is named by its trace and its id, and leads to its story if it has another one.
func TestRawLinks(t *testing.T) {
	t.Parallel()
	cause, effect, other := spanOf(1), spanOf(2, 1, 7, 8), spanOf(3)
	effect.Attributes["order.id"] = "42"
	effect.Links[0].Attributes = trail.Attributes{"link.relationship": "triggered_by", "link.trace_id": cause.TraceID, "order.id": "42", "n": int64(5)}
	effect.Links[1].Attributes = trail.Attributes{"link.untrusted": true}
	effect.Links[2].Attributes["link.trace_id"] = spanOf(8).TraceID
	story := trail.Stitch(trail.Spans{Spans: []trail.Span{cause, effect, other}}, trail.Options{}, cause.Ref)
	story.Edges = append(story.Edges, trail.Edge{Kind: trail.EdgeLink, From: other.Ref, To: effect.Ref, Missing: true, Elsewhere: true})
	article := func(s trail.Span) string {
		page := rendered(t, New(story, Options{Span: s.SpanID, Elsewhere: func(r trail.Ref) string { return "/stories/" + r.SpanID }}))
		return regexp.MustCompile(`(?s)<article class="[^"]*" id="span-` + s.SpanID + `".*?</article>`).FindString(page)
	}
	attributes := "link.relationship=triggered_by link.trace_id=" + cause.TraceID + " n=5 order.id=42 "
	for _, tc := range []struct {
		in   trail.Span
		want []string
	}{
		{effect, []string{
			"<dt>link to " + cause.SpanID + "<dd>" + attributes,
			"<dt>link to " + spanOf(7).SpanID + "<dd>link.untrusted=true",
			"a span of an outside caller, trace <code>" + spanOf(7).TraceID + "</code>, span <code>" + spanOf(7).SpanID + "</code>",
			"a span that is not here, trace <code>" + spanOf(8).TraceID + "</code>, span <code>" + spanOf(8).SpanID + "</code>",
			`<a href="/stories/` + other.SpanID + `">a span that is not in this story</a>, trace <code>` + other.TraceID + "</code>",
		}},
		{cause, []string{"<dt>link from " + effect.SpanID + "<dd>" + attributes}},
	} {
		for _, want := range tc.want {
			if !strings.Contains(article(tc.in), want) {
				t.Errorf("the span %s does not show %s:\n%s", tc.in.SpanID, want, article(tc.in))
			}
		}
	}
	if page := rendered(t, New(story, Options{Static: true})); strings.Contains(page, "/stories/") || !strings.Contains(page, "a span that is not in this story, trace") {
		t.Error("a page of one file leads to another story, or does not name its span")
	}
}
