package system_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// For each scenario the trail has the same spans, parents and links as a recorder of all
// spans, and every trace and span leads to it.
func TestTrail(t *testing.T) {
	t.Parallel()
	for _, sc := range demo.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			sys := systemtest.Start(t, systemtest.Deadline(soon))
			other, err := demo.Play(context.Background(), sys.Shop, demo.Scenarios()[0])
			if err != nil {
				t.Fatal(err)
			}
			order, err := demo.Play(context.Background(), sys.Shop, sc)
			if err != nil {
				t.Fatal(err)
			}
			var got ordertrail.Trail
			systemtest.Until(t, "the trail is complete", func() bool {
				got = getTrail(t, sys.URL+"/orders/"+order.ID+"/trail")
				return got.Complete && !got.Pending
			})
			// The last acks belong to no event, so no gap shows that they are missing.
			systemtest.Until(t, "the trail has all that was recorded", func() bool {
				got = getTrail(t, sys.URL+"/orders/"+order.ID+"/trail")
				return slices.Equal(graph(got), recorded(sys.Spans.GetSpans(), order.ID))
			})
			if got.OrderID != order.ID || got.State != sc.Want.State || got.Reason != sc.Want.Reason || got.Refunded != sc.Want.Refunded {
				t.Errorf("in the trail order %s is %s, %s", got.OrderID, got.State, got.Reason)
			}
			for _, l := range got.Lanes {
				wantLeads(t, sys.URL+"/trail?trace="+l.TraceID, order.ID)
				for _, s := range l.Spans {
					wantLeads(t, sys.URL+"/trail?span="+s.SpanID, order.ID)
				}
			}
			if strings.Contains(strings.Join(graph(got), "\n"), other.ID) {
				t.Error("the trail has something of another order")
			}
		})
	}
}

// graph writes a trail's spans and edges, sorted.
func graph(t ordertrail.Trail) (lines []string) {
	for _, l := range t.Lanes {
		for _, s := range l.Spans {
			failed := ""
			if s.Status == trail.StatusError {
				failed = "failed " + s.ErrorType
			}
			lines = append(lines, strings.Join([]string{"span", s.TraceID, s.SpanID, s.Service, s.Name, s.Kind, failed}, " "))
		}
	}
	for _, e := range t.Edges {
		if e.Kind != trail.EdgeRetry {
			lines = append(lines, strings.Join([]string{e.Kind, e.From.TraceID, e.From.SpanID, e.To.TraceID, e.To.SpanID, e.Relationship, e.EventType}, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// recorded writes the same for the recorded spans of an order.
func recorded(spans tracetest.SpanStubs, order string) (lines []string) {
	of := event.OrderIDKey.String(order)
	for _, s := range spans {
		batch := service(s) == "analytics"
		mine := slices.Contains(s.Attributes, of)
		for _, l := range s.Links {
			if batch && slices.Contains(l.Attributes, of) {
				mine = true
			}
		}
		if !mine {
			continue
		}
		self := s.SpanContext.TraceID().String() + " " + s.SpanContext.SpanID().String()
		failed := ""
		if s.Status.Code == codes.Error {
			failed = "failed " + value(s.Attributes, "error.type")
		}
		lines = append(lines, strings.Join([]string{"span", self, service(s), s.Name, s.SpanKind.String(), failed}, " "))
		if s.Parent.SpanID().IsValid() {
			lines = append(lines, strings.Join([]string{"parent", s.SpanContext.TraceID().String(), s.Parent.SpanID().String(), self, "", ""}, " "))
		}
		for _, l := range s.Links {
			if batch && !slices.Contains(l.Attributes, of) {
				continue
			}
			lines = append(lines, strings.Join([]string{"link", l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String(), self,
				value(l.Attributes, "link.relationship"), value(l.Attributes, "link.event_type")}, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

func getTrail(t testing.TB, url string) (got ordertrail.Trail) {
	t.Helper()
	getJSON(t, url, &got)
	return got
}

func getJSON(t testing.TB, url string, into any) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
}

// wantLeads wants a trace, or a span, to lead to an order.
func wantLeads(t *testing.T, url, order string) {
	t.Helper()
	var found struct {
		Orders []struct{ ID, Trail string }
	}
	getJSON(t, url, &found)
	for _, o := range found.Orders {
		if o.ID == order && o.Trail == "/orders/"+order+"/trail" {
			return
		}
	}
	t.Errorf("GET %s leads to %v, not to %s", url, found.Orders, order)
}
