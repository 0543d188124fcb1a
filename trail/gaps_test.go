package trail_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

// What is missing is told, once each, and why.
func TestGaps(t *testing.T) {
	without := func(names ...string) func(*story, map[string]*tracetest.SpanStub) {
		return func(s *story, by map[string]*tracetest.SpanStub) {
			for _, name := range names {
				s.spans = slices.DeleteFunc(s.spans, func(stub *tracetest.SpanStub) bool { return stub == by[name] })
			}
		}
	}
	for _, tt := range []struct {
		name    string
		spans   func(*story, map[string]*tracetest.SpanStub)
		order   func(*trail.Order)
		want    []string // kind, and what the detail has
		pending bool
	}{
		{name: "nothing"},
		{name: "a publisher, long ago", spans: without("confirmed"),
			want: []string{"publisher payments.confirmed is not known: it was not sampled, is forgotten", "link_target", "link_target", "link_target"}},
		{name: "a publisher, just now", spans: without("mail1"), order: func(o *trail.Order) { o.Now = o.Events[5].Time },
			want: []string{"publisher notify.shipped has not come in yet", "link_target"}, pending: true},
		{name: "a publisher, not sampled", spans: without("mail1"), order: func(o *trail.Order) { o.Events[5].Sampled = false },
			want: []string{"publisher notify.shipped is not known: the trace was not sampled", "link_target"}},
		{name: "an event without a trace", spans: without("mail1"), order: func(o *trail.Order) { o.Events[5].TraceID = "" },
			want: []string{"publisher notify.shipped was published without a trace", "link_target"}},
		{name: "all consumers of an event", spans: func(s *story, by map[string]*tracetest.SpanStub) {
			by["batch"].Links = by["batch"].Links[:5]
		}, want: []string{"consumer notify.shipped is not known"}},
		{name: "all consumers, just now", spans: func(s *story, by map[string]*tracetest.SpanStub) {
			by["batch"].Links = by["batch"].Links[:5]
		}, order: func(o *trail.Order) { o.Now = o.Events[5].Time }, want: []string{"consumer notify.shipped has not come in yet"}, pending: true},
		{name: "a parent", spans: without("fulfillment"), want: []string{"parent", "parent"}},
		{name: "the deadline", spans: without("due"), want: []string{"deadline is not known"}},
		{name: "the deadline, not due", spans: without("due"), order: func(o *trail.Order) { o.Now = o.Deadline.Add(-time.Second) },
			want: []string{"deadline comes due in 1.00 s"}, pending: true},
		{name: "links", spans: func(_ *story, by map[string]*tracetest.SpanStub) { by["batch"].DroppedLinks = 7 },
			want: []string{"links_dropped has lost 7 of its links"}},
		{name: "the order's end", order: func(o *trail.Order) { o.State, o.Open = "created", true }, want: []string{"order_open"}, pending: true},
		{name: "the stream", order: func(o *trail.Order) { o.State, o.Events, o.Err = "", nil, errors.New("secret detail") }, want: []string{"stream"}},
		{name: "the order", order: func(o *trail.Order) { o.State, o.Events = "", nil }, want: []string{"order_unknown"}},
		{name: "a stranger's span is none", spans: func(s *story, by map[string]*tracetest.SpanStub) {
			by["post"].Links = append(by["post"].Links, traceLink(newStory(9).span("x", "x", oteltrace.SpanKindClient, 0, 1).SpanContext))
		}},
		{name: "an untrusted producer's is none", spans: func(s *story, by map[string]*tracetest.SpanStub) {
			by["post"].Links = append(by["post"].Links, traceLink(newStory(9).span("x", "x", oteltrace.SpanKindClient, 0, 1).SpanContext,
				attribute.String("link.trace_id", "00000000000000000000000000000001"), attribute.Bool("link.untrusted", true)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, by := happy(1)
			order := s.order(events(by)...)
			if tt.spans != nil {
				tt.spans(s, by)
			}
			if tt.order != nil {
				tt.order(&order)
			}
			got := stitched(t, s, order)
			if got.Complete != (len(tt.want) == 0) || got.Pending != tt.pending || len(got.Gaps) != len(tt.want) {
				t.Errorf("complete: %t, pending: %t", got.Complete, got.Pending)
			}
			left := slices.Clone(got.Gaps)
			for _, want := range tt.want {
				kind, detail, _ := strings.Cut(want, " ")
				at := slices.IndexFunc(left, func(g trail.Gap) bool { return g.Kind == kind && strings.Contains(g.Detail, detail) })
				if at < 0 {
					t.Errorf("no gap %q", want)
					continue
				}
				left = slices.Delete(left, at, at+1)
			}
			if t.Failed() {
				t.Errorf("the gaps are %+v", got.Gaps)
			}
			for _, g := range got.Gaps {
				if tt.name == "a publisher, just now" && (!g.Pending || !strings.Contains(g.Detail, "has not come in yet")) {
					t.Errorf("not pending: %+v", g)
				}
				if strings.Contains(g.Detail, "secret") {
					t.Errorf("%q tells an error", g.Detail)
				}
			}
		})
	}
}

// Without any span the trail is what the stream says.
func TestNoSpans(t *testing.T) {
	s, by := happy(1)
	got := trail.Stitch(s.order(by["created"]), trail.Spans{})
	if len(got.Lanes) != 0 || got.Complete || len(got.Events) != 1 || !slices.ContainsFunc(got.Gaps, func(g trail.Gap) bool { return g.Kind == trail.GapNoSpans }) {
		t.Errorf("the trail is %+v", got)
	}
}

// What the source has left out is told.
func TestTruncated(t *testing.T) {
	s, by := happy(1)
	found, err := stored(s).Order(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	found.Truncated = true
	got := trail.Stitch(s.order(events(by)...), found)
	if got.Complete || len(got.Gaps) != 1 || got.Gaps[0].Kind != trail.GapTruncated {
		t.Errorf("the gaps are %+v", got.Gaps)
	}
}
