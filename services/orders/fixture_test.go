package orders_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

const many = 500 // more than a test has

// open runs the service alone.
func open(tb testing.TB) *shoptest.Shop {
	tb.Helper()
	return shoptest.Open(tb, systemtest.Server(tb).Connect, orders.Wire(many, many, time.Now))
}

// MustForge stores an orders.created that no service published, and returns its order
// id.
func MustForge(tb testing.TB, s *shoptest.Shop, data string) string {
	tb.Helper()
	id := event.NewOrderID()
	if _, err := s.JetStream.PublishMsg(context.Background(), foreign("orders.created."+id, data)); err != nil {
		tb.Fatal(err)
	}
	return id
}

// foreign returns a message with the ce-id of its subject. Everything else in it is wrong.
func foreign(subject, data string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{"ce-id": {subject}}, Data: []byte(data)}
}

func conclusion(id, reason string) event.Conclusion {
	return event.Conclusion{OrderKey: event.OrderKey{OrderID: id}, Reason: reason, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}}}
}

// spanNamed waits for a span of this name about this order.
func spanNamed(tb testing.TB, spans *tracetest.SpanRecorder, name, order string) (found sdktrace.ReadOnlySpan) {
	tb.Helper()
	systemtest.Until(tb, "a span "+name, func() bool {
		for _, s := range spans.Ended() {
			for _, a := range s.Attributes() {
				if s.Name() == name && a.Key == event.OrderIDKey && a.Value.AsString() == order {
					found = s
					return true
				}
			}
		}
		return false
	})
	return found
}
