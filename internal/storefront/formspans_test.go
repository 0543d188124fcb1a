package storefront_test

import (
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing/linktest"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// A form's request has one span with the attributes of HTTP. It is the parent of the
// publish spans and links nothing. The scenario "cancelled" places and cancels its order
// in one request, and therefore in one trace.
func TestFormSpans(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := wantRedirect(t, MustSubmit(t, s, "/place", form(), submitted()))
	wantRequestSpan(t, s, id, "POST /place", "publish orders.created.{order_id}")

	wantRedirect(t, MustSubmit(t, s, "/orders/"+id+"/cancel", nil, submitted()))
	cancel := spansOf(s).One(t, "POST /orders/{id}/cancel")
	cancel.IsRoot(t).LinksExactly(t, linktest.To(spansOf(s).One(t, "publish orders.created.{order_id}"), "cancels"))

	id = wantRedirect(t, MustSubmit(t, s, "/scenarios/cancelled", nil, submitted()))
	wantRequestSpan(t, s, id, "POST /scenarios/{name}", "publish orders.created.{order_id}", "publish orders.cancelled.{order_id}")
}

func spansOf(s *shoptest.Shop) linktest.Set {
	return linktest.Spans(tracetest.SpanStubsFromReadOnlySpans(s.Spans.Ended()))
}

// wantRequestSpan fails the test unless the request's span is as it should be, and the
// parent of these publishes of the order.
func wantRequestSpan(t *testing.T, s *shoptest.Shop, order, name string, publishes ...string) {
	t.Helper()
	systemtest.Until(t, "the span has ended", func() bool {
		return len(spansOf(s).With(event.OrderIDKey.String(order))) > len(publishes)
	})
	spans := spansOf(s).With(event.OrderIDKey.String(order))
	request := spans.One(t, name)
	request.IsRoot(t).LinksExactly(t)
	if request.SpanKind != trace.SpanKindServer {
		t.Errorf("%s has kind %s", name, request.SpanKind)
	}
	has := map[string]bool{}
	for _, a := range request.Attributes {
		has[string(a.Key)] = true
	}
	for _, key := range []string{"http.request.method", "http.route", "http.response.status_code"} {
		if !has[key] {
			t.Errorf("%s has no attribute %s", name, key)
		}
	}
	for _, publish := range publishes {
		spans.One(t, publish).IsChildOf(t, request)
	}
}
