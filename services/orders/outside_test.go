package orders_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// The span of an outside caller is linked, and has no other effect on the shop's traces.
func TestOutsideContext(t *testing.T) {
	t.Parallel()
	s := open(t)
	const outsideTrace, outsideSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, flags := range []string{"01", "00"} {
		t.Run("Flags"+flags, func(t *testing.T) {
			a := s.MustPost(t, shoptest.Body(nil), "traceparent", "00-"+outsideTrace+"-"+outsideSpan+"-"+flags, "tracestate", "vendor=outside",
				"baggage", "order.id=forged,user.name=Eve")
			a.WantStatus(t, http.StatusAccepted)
			order := a.MustOrder(t)
			server := spanNamed(t, s.Spans, "POST /orders", order.ID)
			if server.SpanKind() != trace.SpanKindServer {
				t.Errorf("the request's span is %v, want a server", server.SpanKind())
			}
			if server.Parent().IsValid() {
				t.Errorf("the request's span has the parent %s, want a root", server.Parent().SpanID())
			}
			if got := server.SpanContext().TraceID().String(); got == outsideTrace {
				t.Error("the request's span is in the outside trace")
			}
			if !server.SpanContext().IsSampled() {
				t.Error("the request's span is not sampled")
			}
			links := server.Links()
			if len(links) != 1 || links[0].SpanContext.TraceID().String() != outsideTrace || links[0].SpanContext.SpanID().String() != outsideSpan {
				t.Errorf("links = %v, want one to the outside span", links)
			}
			if got := order.Events[0].TraceID; got != server.SpanContext().TraceID().String() {
				t.Errorf("the event is of trace %s, want %s", got, server.SpanContext().TraceID())
			}
			m := s.MustStored(t, "orders.created."+order.ID)
			if got, want := m.Header.Values("baggage"), []string{"order.id=" + order.ID}; !slices.Equal(got, want) {
				t.Errorf("baggage = %q, want %q", got, want)
			}
			if got := m.Header.Values("tracestate"); len(got) > 0 {
				t.Errorf("tracestate = %q, want none", got)
			}
			if got := m.Header.Get("traceparent"); !strings.HasSuffix(got, "-01") {
				t.Errorf("traceparent = %q, want it sampled", got)
			}
		})
	}
	t.Run("Malformed", func(t *testing.T) {
		order := s.MustPost(t, shoptest.Body(nil), "traceparent", "00-zz-zz-01").MustOrder(t)
		if links := spanNamed(t, s.Spans, "POST /orders", order.ID).Links(); len(links) > 0 {
			t.Errorf("links = %v, want none", links)
		}
	})
}

// Spans hold no personal data.
func TestSpansHoldNoPersonalData(t *testing.T) {
	t.Parallel()
	s := open(t)
	order := s.MustPost(t, shoptest.Body(map[string]any{"customer.name": "Secretname", "customer.email": "secretmail@example.com",
		"shipping.address": "Secretstreet 1", "payment.token": "secrettoken"})).MustOrder(t)

	spanNamed(t, s.Spans, "POST /orders", order.ID)
	s.MustPost(t, shoptest.Body(map[string]any{"customer.email": "secretmail"}))
	for _, span := range s.Spans.Ended() {
		if text := strings.ToLower(fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Links(), span.Status())); strings.Contains(text, "secret") {
			t.Errorf("span %s says %s", span.Name(), text)
		}
	}
}

// While NATS is away, requests fail soon. When it is back, they succeed again.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	store := systemtest.NewStore(t)
	s := shoptest.Open(t, store.Connect, orders.Wire(many, many, time.Now))
	order := s.MustPlace(t)
	store.Change(t, func(string) { // while the server is stopped
		systemtest.Until(t, "the service is not ready", func() bool {
			return s.MustDo(t, http.MethodGet, "/readyz", "", nil).StatusCode == http.StatusServiceUnavailable
		})
		s.MustDo(t, http.MethodGet, "/healthz", "", nil).WantStatus(t, http.StatusOK)
		s.MustDo(t, http.MethodGet, "/catalog", "", nil).WantStatus(t, http.StatusOK)
		requests := []struct{ method, path string }{
			{"POST", "/orders"}, {"GET", "/orders/" + order.ID}, {"DELETE", "/orders/" + order.ID}, {"GET", "/orders/" + shoptest.Unknown},
		}
		began := time.Now()
		answers := s.MustDoAll(t, len(requests), func(i int) (string, string, string, http.Header) {
			return requests[i].method, requests[i].path, shoptest.Body(nil), shoptest.JSON("Idempotency-Key", "away")
		})
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("the answers took %v, want 4 s at most", took)
		}
		for i, r := range requests {
			t.Run(r.method+r.path, func(t *testing.T) {
				answers[i].WantProblem(t, http.StatusServiceUnavailable, "try again")
				if got := answers[i].Header.Get("Retry-After"); got == "" {
					t.Error("no Retry-After")
				}
			})
		}
	})
	systemtest.Until(t, "the service is ready", func() bool {
		return s.MustDo(t, http.MethodGet, "/readyz", "", nil).StatusCode == http.StatusOK
	})
	var id string
	systemtest.Until(t, "an order is placed", func() bool {
		a := s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", "away")
		if a.StatusCode == http.StatusAccepted {
			id = a.MustOrder(t).ID
		}
		return id != ""
	})
	// The first try may or may not have been stored when the connection came back:
	// with the key it is one order anyway.
	if again := s.MustPost(t, shoptest.Body(nil), "Idempotency-Key", "away").MustOrder(t); again.ID != id {
		t.Errorf("the key leads to %s, want %s", again.ID, id)
	}
}
