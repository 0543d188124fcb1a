package ordertrail_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/trail"
)

// Each missing part gives one gap, with the likely reason.
func TestGaps(t *testing.T) {
	type order = *ordertrail.Order
	last := func(o order) *ordertrail.Event { return &o.Events[len(o.Events)-1] }
	for _, tt := range []struct {
		name    string
		without string      // the end of the names of the missing spans
		unlink  bool        // no span links the last event
		child   bool        // the missing span is the parent of a child, too
		order   func(order) // changes the facts of the stream
		want    []string    // kind and part of the detail, separated by a space
		pending bool
	}{
		{name: "nothing"},
		{name: "a publisher, long ago", without: "publish payments.confirmed",
			want: []string{"publisher payments.confirmed is missing: it was not sampled"}},
		{name: "a publisher with a child", without: "publish payments.confirmed", child: true,
			want: []string{"publisher payments.confirmed is missing: it was not sampled"}},
		{name: "a publisher, just now", without: "publish notify.refunded", order: func(o order) { o.Now = last(o).Time },
			want: []string{"publisher notify.refunded has not arrived yet"}, pending: true},
		{name: "a publisher, not sampled", without: "publish notify.refunded", order: func(o order) { last(o).Sampled = false },
			want: []string{"publisher notify.refunded is missing: the trace was not sampled"}},
		{name: "an event without a trace", without: "publish notify.refunded", order: func(o order) { last(o).TraceID = "" },
			want: []string{"publisher notify.refunded was published without a trace", "link_target"}},
		{name: "all consumers of an event", unlink: true, want: []string{"consumer notify.refunded is missing"}},
		{name: "all consumers, just now", unlink: true, order: func(o order) { o.Now = last(o).Time },
			want: []string{"consumer notify.refunded has not arrived yet"}, pending: true},
		{name: "the deadline", without: "deadlines.due", want: []string{"deadline is missing"}},
		{name: "the deadline, not due", without: "deadlines.due", order: func(o order) { o.Now = o.Deadline.Add(-time.Second) },
			want: []string{"deadline comes due in 1.00 s"}, pending: true},
		{name: "the order's end", order: func(o order) { o.State, o.Open = "created", true }, want: []string{"order_open"}, pending: true},
		{name: "the stream", order: func(o order) { o.State, o.Events, o.Err = "", nil, errors.New("secret detail") }, want: []string{"stream"}},
		{name: "the order", order: func(o order) { o.State, o.Events = "", nil }, want: []string{"order_unknown"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, found, _ := recorded(t)
			lastEvent := *last(&o)
			if tt.order != nil {
				tt.order(&o)
			}
			if tt.child {
				child := found.Spans[slices.IndexFunc(found.Spans, func(s trail.Span) bool { return strings.HasSuffix(s.Name, tt.without) })]
				child.ParentID, child.SpanID, child.Name = child.SpanID, "00000000000000aa", "child"
				found.Spans = append(found.Spans, child)
			}
			found.Spans = slices.DeleteFunc(found.Spans, func(s trail.Span) bool { return tt.without != "" && strings.HasSuffix(s.Name, tt.without) })
			for i := range found.Spans {
				if tt.unlink {
					found.Spans[i].Links = slices.DeleteFunc(found.Spans[i].Links, func(l trail.Link) bool { return l.SpanID == lastEvent.SpanID })
				}
			}
			got := ordertrail.Stitch(o, found)
			var gaps []string
			for _, g := range got.Gaps {
				gaps = append(gaps, fmt.Sprintf("%s %s", g.Kind, g.Detail))
				if strings.Contains(g.Detail, "secret") || strings.Contains(g.Detail, "has not arrived yet") != (g.Pending && g.Kind != "deadline" && g.Kind != "order_open") {
					t.Errorf("pending: %t: %q", g.Pending, g.Detail)
				}
			}
			if got.Complete != (len(tt.want) == 0) || got.Pending != tt.pending || len(gaps) != len(tt.want) {
				t.Errorf("complete: %t, pending: %t, gaps: %q", got.Complete, got.Pending, gaps)
			}
			for _, want := range tt.want {
				kind, detail, _ := strings.Cut(want, " ")
				at := slices.IndexFunc(gaps, func(g string) bool { return strings.HasPrefix(g, kind+" ") && strings.Contains(g, detail) })
				if at < 0 {
					t.Fatalf("no gap %q among %q", want, gaps)
				}
				gaps = slices.Delete(gaps, at, at+1)
			}
		})
	}
}

// Without spans the trail shows the facts of the stream.
func TestNoSpans(t *testing.T) {
	o, _, _ := recorded(t)
	got := ordertrail.Stitch(o, trail.Spans{})
	if len(got.Lanes) != 0 || got.Complete || len(got.Events) != len(o.Events) || got.Gaps[0].Kind != trail.GapNoSpans {
		t.Errorf("the trail is %+v", got)
	}
}
