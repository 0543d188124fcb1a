package system_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing/linktest"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// Each scenario leaves exactly the spans and links in its golden file: which span
// is a root, which is whose child, which links which. A link that turns into a
// parent, or gets lost, changes the file.
func TestTopology(t *testing.T) {
	t.Parallel()
	for _, sc := range demo.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			spans := spansOf(t, sc, systemtest.Deadline(soon))
			for _, s := range spans {
				for _, l := range s.Links {
					if got, want := value(l.Attributes, "link.trace_id"), l.SpanContext.TraceID().String(); got != want {
						t.Errorf("%s: %s: link.trace_id is %q, want %q", service(s), s.Name, got, want)
					}
				}
			}
			linktest.Golden(t, filepath.Join("testdata", "topology", sc.Name+".txt"), topology(spans))
		})
	}
}

// With TRACE_TOPOLOGY=parent a consumer is the child of its producer, so that
// the whole of an order but its batches is one trace.
func TestTopologyParent(t *testing.T) {
	t.Parallel()
	spans := spansOf(t, demo.Scenarios()[0], func(cfg *systemtest.Config) { cfg.Settings.ParentTraces = true })
	traces := map[trace.TraceID]bool{}
	for _, s := range spans {
		if service(s) != analytics.Name {
			traces[s.SpanContext.TraceID()] = true
		}
	}
	if len(traces) != 1 {
		t.Errorf("the order is in %d traces, want 1", len(traces))
	}
}

// spansOf plays a scenario on a system of its own and returns every span of the
// order, after all services have finished.
func spansOf(t *testing.T, sc demo.Scenario, change ...func(*systemtest.Config)) tracetest.SpanStubs {
	t.Helper()
	sys := systemtest.Start(t, change...)
	sys.AwaitStock(t)
	order, err := demo.Play(context.Background(), sys.Shop, sc)
	if err != nil {
		t.Fatal(err)
	}
	counted(t, sys, order.Events[len(order.Events)-1].Sequence)
	ctx, cancel := app.StopTimeout(context.Background())
	defer cancel()
	if err := sys.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	of := event.OrderIDKey.String(order.ID)
	spans := slices.DeleteFunc(sys.Spans.GetSpans(), func(s tracetest.SpanStub) bool {
		return service(s) != analytics.Name && !slices.Contains(s.Attributes, of)
	})
	for _, s := range spans {
		if service(s) == analytics.Name && slices.Contains(s.Attributes, of) {
			t.Errorf("span %q names one order, but belongs to many", s.Name)
		}
	}
	return spans
}

// counted waits until analytics has counted everything up to sequence.
func counted(t testing.TB, sys *systemtest.System, sequence uint64) {
	t.Helper()
	systemtest.Until(t, "analytics counts everything", func() bool {
		return systemtest.GetAnalytics(t, sys.URL).AsOf >= sequence
	})
}

// topology is the topology of an order's spans. How events fall into batches is a
// matter of timing, so all batches count as one. Which outcome comes second, and
// decides, is one too, so the outcomes that fulfillment processes have no names. And so
// is whether the deadline of a decided order comes due before the system stops: its trace,
// which publishes nothing, is left out.
func topology(spans tracetest.SpanStubs) string {
	batches := tracetest.SpanStub{Name: "process all batches", SpanKind: trace.SpanKindConsumer}
	spans = slices.DeleteFunc(spans, func(s tracetest.SpanStub) bool {
		if service(s) != analytics.Name {
			return false
		}
		batches.Resource, batches.Links = s.Resource, append(batches.Links, s.Links...)
		return true
	})
	traces := strings.Split(linktest.Spans(append(spans, batches)).Topology(), "\n\n")
	for i, text := range traces {
		traces[i] = strings.TrimSpace(text)
		for _, t := range []event.Type{event.PaymentConfirmed, event.PaymentDeclined, event.InventoryReserved, event.InventoryRejected} {
			name := event.Template(t.Subject(""))
			if strings.HasPrefix(text, "fulfillment: process "+name) {
				traces[i] = strings.NewReplacer("fulfillment: process "+name, "fulfillment: process OUTCOME", "fulfillment: ack "+name, "fulfillment: ack OUTCOME",
					"links "+t.Domain()+": publish "+name+" as triggered_by", "links OUTCOME as triggered_by").Replace(traces[i])
			}
		}
	}
	traces = slices.DeleteFunc(traces, func(text string) bool {
		return strings.HasPrefix(text, "orders: process "+event.Template(event.DeadlineDue.Subject(""))) && !strings.Contains(text, "orders: publish ")
	})
	slices.Sort(traces)
	return strings.Join(traces, "\n\n") + "\n"
}

func service(s tracetest.SpanStub) string { return value(s.Resource.Attributes(), "service.name") }

func value(attrs []attribute.KeyValue, key attribute.Key) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.AsString()
		}
	}
	return ""
}

// The API's own view agrees: an event's trace and span are those of its producer.
func TestEventsNameTheirProducers(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	order, err := demo.Play(context.Background(), sys.Shop, demo.Scenarios()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range order.Events {
		systemtest.Until(t, "the producer of "+string(e.Type)+" ends", func() bool {
			return slices.ContainsFunc(sys.Spans.GetSpans(), func(s tracetest.SpanStub) bool { return produced(s, e) })
		})
	}
}

func produced(s tracetest.SpanStub, e orders.Event) bool {
	return s.SpanContext.SpanID().String() == e.SpanID && s.SpanContext.TraceID().String() == e.TraceID &&
		s.SpanKind == trace.SpanKindProducer && strings.HasPrefix(value(s.Attributes, "messaging.destination.name"), string(e.Type)+".") && service(s) == e.Type.Domain()
}
