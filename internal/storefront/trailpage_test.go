package storefront_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// The trail's page shows every span of the trail, what each is tied to, and the way
// to Jaeger, without a script.
func TestTrailPage(t *testing.T) {
	t.Parallel()
	s := everything(t, func(cfg *systemtest.Config) {
		cfg.Settings.JaegerUIURL = &url.URL{Scheme: "http", Host: "jaeger.example"}
	})
	id := wantRedirect(t, MustSubmit(t, s, "/scenarios/undeliverable", nil, submitted()))
	var got ordertrail.Trail
	systemtest.Until(t, "the trail has everything but the deadline", func() bool {
		a := s.MustDo(t, http.MethodGet, "/orders/"+id+"/trail", "", http.Header{"Accept": {"application/json"}})
		a.WantStatus(t, http.StatusOK)
		got = ordertrail.Trail{}
		if err := json.Unmarshal(a.Content, &got); err != nil {
			t.Fatal(err)
		}
		for _, g := range got.Gaps {
			if strings.Contains(g.Detail, "analytics") || g.Kind == ordertrail.GapConsumer || g.Kind == ordertrail.GapOpen || g.Kind == ordertrail.GapPublisher {
				return false
			}
		}
		return len(got.Lanes) >= 11
	})
	page := wantPage(t, MustVisit(t, s, "/orders/"+id+"/trail"), http.StatusOK,
		"Where the time went", "fulfillment: fulfill order", ">publish orders.created.{order_id}<", ">inventory <small>", "payment confirmation", "inventory reservation", "undo", "batch: ", "Events between services")
	spans, links := 0, 0
	for _, l := range got.Lanes {
		if !strings.Contains(page, `aria-label="trace `+l.TraceID+`"`) {
			t.Errorf("there is no lane for trace %s", l.TraceID)
		}
		for _, n := range l.Spans {
			spans++
			for _, part := range []string{`id="row-` + n.SpanID + `"`, `data-bar="` + n.SpanID + `"`, `id="span-` + n.SpanID + `"`,
				`href="http://jaeger.example/trace/` + n.TraceID + `?uiFind=` + n.SpanID + `"`} {
				if strings.Count(page, part) != 1 {
					t.Errorf("the page has %s %d times, want once", part, strings.Count(page, part))
				}
			}
		}
	}
	for _, e := range got.Edges {
		if e.Kind == trail.EdgeLink && !e.Missing {
			links++
			if arrow := `data-from="` + e.From.SpanID + `" data-to="` + e.To.SpanID + `"`; !strings.Contains(page, arrow) {
				t.Errorf("there is no arrow for the link from %s to %s (%s)", e.From.SpanID, e.To.SpanID, e.Relationship)
			}
		}
	}
	if spans < 30 || links < 15 {
		t.Errorf("%d spans and %d links, want those of an order that is undone", spans, links)
	}
	if !strings.Contains(page, `class="bar svc-fulfillment critical"`) || !strings.Contains(page, " critical\" data-from=") {
		t.Error("the critical path is not marked")
	}
	wantPage(t, MustVisit(t, s, "/services"), http.StatusOK, "analytics", "orders.created", "payment confirmation")
	wantPage(t, MustVisit(t, s, "/orders/"+shoptest.Unknown+"/trail"), http.StatusNotFound)
	s.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := MustVisit(t, s, "/trail?trace="+got.Lanes[0].TraceID+"&span="+got.Lanes[0].Spans[1].SpanID)
	a.WantStatus(t, http.StatusSeeOther)
	if got, want := a.Header.Get("Location"), "/orders/"+id+"/trail#span-"+got.Lanes[0].Spans[1].SpanID; got != want {
		t.Errorf("a span leads to %q, want %q", got, want)
	}
}
