package ordertrail_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/trail"
)

// recorded returns an order that a real shop played, with the spans that a real Jaeger
// returned, and the trail that the store in the process gave. The order has a retry, a
// fan-in, a refusal, compensations, batches and a deadline. TestTrailFromJaeger, of
// package system, records it.
func recorded(t *testing.T) (ordertrail.Order, trail.Spans, ordertrail.Trail) {
	t.Helper()
	text, err := os.ReadFile("../../trail/testdata/jaeger/trail.json")
	if err != nil {
		t.Fatal(err)
	}
	var want ordertrail.Trail
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	saved, err := os.Open("../../trail/testdata/jaeger/order.http")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = saved.Close() }()
	answer, err := http.ReadResponse(bufio.NewReader(saved), nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, answer.Body) }))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	found, err := trail.NewJaeger(at).Find(t.Context(), string(event.OrderIDKey), want.OrderID, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return ordertrail.Order{
		ID: want.OrderID, State: want.State, Reason: want.Reason, Refunded: want.Refunded, Events: want.Events,
		Deadline: want.Start.Add(3 * time.Second), Now: want.End.Add(time.Hour),
	}, found, want
}

// Jaeger and the store in the process give the same trail: the same spans, edges,
// times and attributes.
func TestJaegerGivesTheSameTrail(t *testing.T) {
	order, found, want := recorded(t)
	got := ordertrail.Stitch(order, found)
	if !got.Complete || len(got.Lanes) < 10 {
		t.Errorf("the trail has %d traces and the gaps %v", len(got.Lanes), got.Gaps)
	}
	var kept trail.Spans // in the store
	for _, l := range want.Lanes {
		for _, n := range l.Spans {
			for _, e := range want.Edges {
				if e.To == n.Ref && e.Kind == trail.EdgeLink {
					n.Links = append(n.Links, trail.Link{Ref: e.From, Attributes: e.Attributes})
				}
			}
			kept.Spans = append(kept.Spans, n.Span)
		}
	}
	gotText, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	wantText, err := json.Marshal(ordertrail.Stitch(order, kept))
	if err != nil {
		t.Fatal(err)
	}
	if string(gotText) != string(wantText) {
		t.Errorf("from Jaeger:\n%s\nfrom the store:\n%s", gotText, wantText)
	}
}

// Names are for people: with any names of spans, the trail has the same end, the
// same gaps and the same compensations.
func TestNamesDoNotMatter(t *testing.T) {
	order, found, _ := recorded(t)
	order.Deadline = order.Now.Add(time.Second)
	found.Spans = slices.DeleteFunc(found.Spans, func(s trail.Span) bool {
		return strings.HasPrefix(s.Attributes.Text("messaging.destination.name"), "deadlines.due.")
	})
	summary := func() (ends []trail.Ref, compensations int, gaps []trail.Gap) {
		story := ordertrail.Stitch(order, found)
		for _, segment := range story.CriticalPath.Segments {
			ends = append(ends, segment.Ref)
		}
		for _, l := range story.Lanes {
			for _, n := range l.Spans {
				if n.Compensation {
					compensations++
				}
			}
		}
		return ends, compensations, story.Gaps
	}
	path, compensations, gaps := summary()
	for i := range found.Spans {
		found.Spans[i].Name = fmt.Sprintf("span %d", i)
	}
	renamedPath, renamedCompensations, renamedGaps := summary()
	if !slices.Equal(path, renamedPath) || compensations != 3 || renamedCompensations != compensations {
		t.Errorf("the critical path is %v and was %v; %d compensations, were %d", renamedPath, path, renamedCompensations, compensations)
	}
	if len(gaps) != 1 || gaps[0].Kind != ordertrail.GapDeadline || !slices.Equal(gaps, renamedGaps) {
		t.Errorf("the gaps are %+v and were %+v", renamedGaps, gaps)
	}
}

// The trail marks the spans that undo something, and their lanes.
func TestCompensations(t *testing.T) {
	order, found, _ := recorded(t)
	var marked []string
	for _, l := range ordertrail.Stitch(order, found).Lanes {
		some := false
		for _, n := range l.Spans {
			if n.Compensation {
				marked = append(marked, n.Name)
				some = true
			}
		}
		if l.Compensation != some {
			t.Errorf("lane %s: compensation %t", l.Name, l.Compensation)
		}
	}
	slices.Sort(marked)
	if want := []string{"publish inventory.released", "publish payments.refunded", "refund card"}; !slices.Equal(marked, want) {
		t.Errorf("the compensations are %q, want %q", marked, want)
	}
}

func TestWrite(t *testing.T) {
	order, found, _ := recorded(t)
	for want, tr := range map[string]*ordertrail.Trail{
		"order " + order.ID + "  cancelled (undeliverable), refunded\n": ordertrail.Stitch(order, found),
		"order x  state unknown\n0 spans in 0 traces":                   ordertrail.Stitch(ordertrail.Order{ID: "x"}, trail.Spans{}),
	} {
		var text strings.Builder
		if err := ordertrail.Write(&text, tr, trail.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text.String(), want) {
			t.Errorf("the text is\n%s\nwant %s", text.String(), want)
		}
	}
}
