package storefront_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// BenchmarkTrailPage asks for a trail with 10,000 orders in the store, over HTTP, as
// a browser and as a program does. On a quiet machine it is slow if it takes more
// than 50 ms; the benchmark does not judge that, since machines differ.
func BenchmarkTrailPage(b *testing.B) {
	sys := systemtest.Start(b, systemtest.Deadline(demo.OrderDeadline))
	s := shoptest.Of(sys)
	paths := map[string]string{}
	for _, sc := range demo.Scenarios() {
		if sc.Name != "happy" && sc.Name != "poison" {
			continue
		}
		order, err := demo.Play(b.Context(), sys.Shop, sc)
		if err != nil {
			b.Fatal(err)
		}
		paths[sc.Name] = "/orders/" + order.ID + "/trail"
		systemtest.Until(b, sc.Name+"'s trail is complete", func() bool {
			var got ordertrail.Trail
			if err := json.Unmarshal(s.MustGet(b, paths[sc.Name]).Content, &got); err != nil {
				b.Fatal(err)
			}
			return got.Complete
		})
		if sc.Name == "happy" {
			multiply(sys.Trails, sys.Spans.GetSpans(), order.ID, 10_000)
		}
	}
	if size := sys.Trails.Size(); size.Spans < 150_000 {
		b.Fatalf("the store has %+v", size)
	}
	for name, path := range paths {
		for form, header := range map[string]http.Header{"html": browser(), "json": {"Accept": {"application/json"}}} {
			b.Run(name+"/"+form, func(b *testing.B) {
				for b.Loop() {
					s.MustDo(b, http.MethodGet, path, "", header).WantStatus(b, http.StatusOK)
				}
			})
		}
	}
}

// multiply fills a store with the spans of one order, n times, each time as those
// of another order.
func multiply(store *trail.Store, spans tracetest.SpanStubs, order string, n int) {
	for range n {
		id, traces, ids := event.NewOrderID(), map[oteltrace.TraceID]oteltrace.TraceID{}, map[oteltrace.SpanID]oteltrace.SpanID{}
		renamed := func(as []attribute.KeyValue) (all []attribute.KeyValue) {
			for _, a := range as {
				if a.Value.Type() == attribute.STRING {
					a.Value = attribute.StringValue(strings.ReplaceAll(a.Value.AsString(), order, id))
				}
				all = append(all, a)
			}
			return all
		}
		moved := func(c oteltrace.SpanContext) oteltrace.SpanContext {
			if !c.IsValid() {
				return c
			}
			t, known := traces[c.TraceID()]
			if !known {
				_, _ = rand.Read(t[:]) // never fails
				traces[c.TraceID()] = t
			}
			s, known := ids[c.SpanID()]
			if !known {
				_, _ = rand.Read(s[:])
				ids[c.SpanID()] = s
			}
			return c.WithTraceID(t).WithSpanID(s)
		}
		for _, span := range spans {
			span.SpanContext, span.Parent, span.Attributes = moved(span.SpanContext), moved(span.Parent), renamed(span.Attributes)
			links := span.Links
			span.Links = nil
			for _, l := range links {
				l.SpanContext, l.Attributes = moved(l.SpanContext), renamed(l.Attributes)
				span.Links = append(span.Links, l)
			}
			store.OnEnd(span.Snapshot())
		}
	}
}
