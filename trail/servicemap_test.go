package trail_test

import (
	"slices"
	"testing"

	"example.org/ordertrail/trail"
)

// The service map needs no attribute of this project: links and parents are enough.
func TestServiceMapOfPlainSpans(t *testing.T) {
	ref := func(trace, span string) trail.Ref { return trail.Ref{TraceID: trace, SpanID: span} }
	spans := []trail.Span{
		{Ref: ref("1", "1"), Service: "web"},
		{Ref: ref("1", "2"), ParentID: "1", Service: "api", Attributes: trail.Attributes{"messaging.destination.name": "jobs"}},
		{Ref: ref("2", "3"), Service: "worker", Links: []trail.Link{{Ref: ref("1", "2")}}},
		{Ref: ref("3", "4"), Service: "audit", Links: []trail.Link{{Ref: ref("2", "3")}}},
	}
	m := trail.Map(spans, nil)
	want := []trail.EventsFlow{
		{From: "api", To: "worker", EventType: "jobs", Links: 1},
		{From: "web", To: "api", EventType: "jobs", Relationship: "child_of", Links: 1},
		{From: "worker", To: "audit", Links: 1},
	}
	if !slices.Equal(m.Flows, want) {
		t.Errorf("the flows are %+v, want %+v", m.Flows, want)
	}
	for _, s := range m.Services {
		if want := map[string]int{"worker": 1, "audit": 2}[s.Name]; s.Step != want {
			t.Errorf("%s is %d steps away, want %d", s.Name, s.Step, want)
		}
	}
}
