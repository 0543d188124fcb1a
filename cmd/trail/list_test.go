package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"testing"

	"example.org/ordertrail/test/trailgen"
	"example.org/ordertrail/trail"
)

// Each line of the list has the name and the numbers of the story that it leads to.
func TestListIsTrue(t *testing.T) {
	linking := func(n int, to ...int) trail.Span {
		s := span(n)
		for _, to := range to {
			s.Links = append(s.Links, trail.Link{Ref: span(to).Ref})
		}
		return s
	}
	in := func(trace int, s trail.Span, parent int) trail.Span {
		s.TraceID = span(trace).TraceID
		if parent > 0 {
			s.ParentID = span(parent).SpanID
		}
		return s
	}
	batch := linking(1, 2, 3)
	batch.Attributes = trail.Attributes{"messaging.operation.type": "process", "messaging.batch.message_count": int64(2)}
	worlds := map[string][]trail.Span{
		"batch that starts first": {batch, span(2), span(3), linking(4, 2)},
		"circle of parents":       {span(1), in(1, span(2), 3), in(1, span(3), 2), linking(4, 2), linking(5, 1)},
		"hub":                     {span(1)},
		"roots of the first":      {span(1), in(1, span(2), 0), linking(3, 2)},
		"roots of the last":       {span(1), linking(2, 1), in(2, span(3), 0)},
	}
	for n := range 110 {
		worlds["hub"] = append(worlds["hub"], linking(2+n, 1))
	}
	for seed := range uint64(50) {
		worlds[fmt.Sprint("generated ", seed)] = trailgen.New(seed).Spans
	}
	for name, spans := range worlds {
		p := &pages{store: trail.NewStore(0)}
		p.store.Add(spans...)
		_, text := ask(t, p, "/", "application/json")
		var got list
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Stories) == 0 {
			t.Fatalf("%s: %v: %.300s", name, err, text)
		}
		if name == "hub" && (len(got.Stories) != 1 || got.Stories[0].Traces != len(spans)) {
			t.Errorf("the list of a hub's %d traces has %d lines, the first with %d traces", len(spans), len(got.Stories), got.Stories[0].Traces)
		}
		for _, line := range got.Stories {
			code, text := ask(t, p, "/stories/"+line.ID, "application/json")
			var behind trail.Story
			if err := json.Unmarshal([]byte(text), &behind); err != nil || code != http.StatusOK {
				t.Fatalf("%s: %d %v", name, code, err)
			}
			if want := summarize(&behind, line.ID); !reflect.DeepEqual(line, want) {
				t.Errorf("%s: the list has\n%+v, the story is\n%+v", name, line, want)
			}
		}
	}
}
