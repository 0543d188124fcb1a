package system_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

var update = flag.Bool("update", false, "write the golden topologies anew")

// Each scenario leaves exactly the spans and links in its golden file: which span
// is a root, which is whose child, which links which. A link that turns into a
// parent, or gets lost, changes the file.
func TestTopology(t *testing.T) {
	t.Parallel()
	for _, sc := range demo.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			got := topology(t, spansOf(t, sc, systemtest.Deadline(soon)))
			golden := filepath.Join("testdata", "topology", sc.Name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the spans are not those of %s (-update writes it anew). Got:\n%s", golden, got)
			}
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

// topology writes spans as text: a paragraph per trace, children indented below
// their parents, links below the span that has them.
func topology(t *testing.T, spans tracetest.SpanStubs) string {
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	p := picture{byID: map[trace.SpanID]tracetest.SpanStub{}, children: map[trace.SpanID]tracetest.SpanStubs{}}
	for _, s := range spans {
		p.byID[s.SpanContext.SpanID()] = s
	}
	var paragraphs, batches []string
	for _, s := range spans {
		if parent := s.Parent.SpanID(); parent.IsValid() {
			if _, ok := p.byID[parent]; !ok {
				t.Errorf("span %q has a parent that is none of the order's", title(s))
			}
			p.children[parent] = append(p.children[parent], s)
		}
	}
	for _, s := range spans {
		switch {
		case s.Parent.SpanID().IsValid():
		case service(s) == analytics.Name:
			// How events fall into batches is a matter of timing: all batches count
			// as one.
			batches = append(batches, p.links(t, s)...)
		default:
			paragraphs = append(paragraphs, p.draw(t, s, 0, p.conclusion(s)))
		}
	}
	slices.Sort(batches)
	paragraphs = append(paragraphs, "analytics: process ORDERS (consumer), in batches\n"+strings.Join(batches, ""))
	slices.SortStableFunc(paragraphs, func(a, b string) int { return cmp.Compare(a, b) })
	return strings.Join(paragraphs, "\n")
}

type picture struct {
	byID     map[trace.SpanID]tracetest.SpanStub
	children map[trace.SpanID]tracetest.SpanStubs
}

// conclusion replaces the name of the outcome in a fulfillment trace: which of the two
// comes second, and decides, is a matter of timing.
func (p picture) conclusion(root tracetest.SpanStub) *strings.Replacer {
	if service(root) != fulfillment.Name {
		return strings.NewReplacer()
	}
	name := "OTHER OUTCOME"
	for _, c := range p.children[root.SpanContext.SpanID()] {
		if c.Name == "fulfill order" {
			name = "DECIDING OUTCOME"
		}
	}
	var pairs []string
	for _, t := range []event.Type{event.PaymentConfirmed, event.PaymentDeclined, event.InventoryReserved, event.InventoryRejected} {
		for _, prefix := range []string{"fulfillment: process ", "fulfillment: ack ", "triggered_by " + t.Domain() + ": publish "} {
			pairs = append(pairs, prefix+string(t), strings.TrimSuffix(prefix, t.Domain()+": publish ")+name)
		}
	}
	return strings.NewReplacer(pairs...)
}

func (p picture) draw(t *testing.T, s tracetest.SpanStub, depth int, names *strings.Replacer) string {
	indent := strings.Repeat("  ", depth)
	root := ""
	if depth == 0 {
		root = ", root"
	}
	failed := ""
	if s.Status.Code == codes.Error {
		failed = ", failed"
	}
	text := indent + title(s) + root + failed + "\n"
	for _, l := range p.links(t, s) {
		text += indent + l
	}
	text = names.Replace(text)
	for _, c := range p.children[s.SpanContext.SpanID()] {
		text += p.draw(t, c, depth+1, names)
	}
	return text
}

// links writes a span's links, and checks that each process span links the span
// that published its message.
func (p picture) links(t *testing.T, s tracetest.SpanStub) []string {
	var lines []string
	for _, l := range s.Links {
		target, ok := p.byID[l.SpanContext.SpanID()]
		if !ok {
			t.Errorf("%s links a span that is none of the order's", title(s))
			continue
		}
		relationship := value(l.Attributes, "link.relationship")
		if got, want := value(l.Attributes, "link.trace_id"), l.SpanContext.TraceID().String(); got != want {
			t.Errorf("%s: link.trace_id is %q, want %q", title(s), got, want)
		}
		// The server published the due message, from the schedule that a service published.
		message, ok := strings.CutPrefix(strings.Replace(s.Name, "deadlines.due", "deadlines.at", 1), "process ")
		if ok && relationship == "triggered_by" && service(s) != analytics.Name && target.Name != "publish "+message {
			t.Errorf("%s links %s", title(s), title(target))
		}
		lines = append(lines, fmt.Sprintf("  ⇠ %s %s: %s\n", relationship, service(target), target.Name))
	}
	return lines
}

func title(s tracetest.SpanStub) string {
	return fmt.Sprintf("%s: %s (%s)", service(s), s.Name, s.SpanKind)
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
		s.Name == "publish "+string(e.Type) && service(s) == e.Type.Domain()
}
