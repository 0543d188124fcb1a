package linktest_test

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/linktest"
)

// message is the delivery of a published message.
type message struct {
	jetstream.Msg
	published *nats.Msg
}

func (m message) Subject() string      { return m.published.Subject }
func (m message) Headers() nats.Header { return m.published.Header }

// flow publishes twice, for a request, and processes the first message as the mutant
// says.
func flow(mutant string) linktest.Set {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	opts := []tracing.Option{tracing.WithTracerProvider(provider),
		tracing.WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
		tracing.WithDestinationTemplate(func(s string) string { return s })}
	if mutant == "parent" {
		opts = append(opts, tracing.WithTopologyParent())
	}
	tracer := tracing.New(opts...)
	m, _ := baggage.NewMember("order.id", "1")
	b, _ := baggage.New(m)
	ctx, request := provider.Tracer("shop").Start(baggage.ContextWithBaggage(context.Background(), b), "POST /orders")
	_, first := tracer.StartSend(ctx, nats.NewMsg("orders.created"))
	first.End(nil, nil)
	_, second := tracer.StartSend(ctx, nats.NewMsg("orders.cancelled"))
	second.End(nil, nil)
	request.End()

	delivered := first.Msg
	switch mutant {
	case "dropped":
		delivered.Header.Del("traceparent")
	case "wrong":
		delivered.Header.Set("traceparent", second.Msg.Header.Get("traceparent"))
	}
	_ = tracer.Process(context.Background(), message{nil, delivered}, func(ctx context.Context, _ jetstream.Msg) error {
		_, span := provider.Tracer("payments").Start(ctx, "charge")
		span.SetAttributes(attribute.String("order.id", baggage.FromContext(ctx).Member("order.id").Value()))
		span.End()
		return nil
	})
	return linktest.Spans(exporter.GetSpans())
}

// check is the assertions that a test of the flow makes.
func check(tb testing.TB, spans linktest.Set) {
	process := spans.One(tb, "process orders.created")
	process.IsRoot(tb).LinksExactly(tb, linktest.To(spans.One(tb, "publish orders.created"), "triggered_by"))
	spans.One(tb, "charge").IsChildOf(tb, process).Has(tb, attribute.String("order.id", "1"))
	spans.NoOrphans(tb)
}

// counter counts the errors of a test.
type counter struct {
	testing.TB
	errors int
}

func (c *counter) Helper()               {}
func (c *counter) Errorf(string, ...any) { c.errors++ }
func (c *counter) Fatalf(string, ...any) { c.errors++ }

func TestFlow(t *testing.T) { check(t, flow("")) }

func TestOrphansAndSets(t *testing.T) {
	spans := flow("")
	c := &counter{TB: t}
	linktest.Set{spans.One(t, "charge")}.NoOrphans(c)
	spans.One(t, "charge").IsChildOf(c, spans.One(t, "publish orders.created"))
	spans.One(t, "process orders.created").LinksExactly(c)
	if c.errors != 3 {
		t.Errorf("%d errors, want 3", c.errors)
	}
	if n := len(spans.With(attribute.String("messaging.operation.name", "publish"))); n != 2 {
		t.Errorf("%d publish spans, want 2", n)
	}
}

func TestGolden(t *testing.T) {
	file := filepath.Join("testdata", "flow.txt")
	linktest.Golden(t, file, flow("").Topology())
	if flag.Lookup("linktest.update").Value.String() == "true" {
		return // the mutants must not write the file
	}
	for _, mutant := range []string{"parent", "dropped", "wrong"} {
		c := &counter{TB: t}
		if linktest.Golden(c, file, flow(mutant).Topology()); c.errors == 0 {
			t.Errorf("mutant %q has the golden topology", mutant)
		}
	}
}

// Equal traces are counted; services, failures and missing parents are shown.
func TestTopologyDetails(t *testing.T) {
	span := func(id byte, stub tracetest.SpanStub) tracetest.SpanStub {
		stub.SpanContext = trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{id}})
		return stub
	}
	shop := resource.NewSchemaless(attribute.String("service.name", "shop"))
	lost := span(9, tracetest.SpanStub{}).SpanContext
	spans := linktest.Spans(tracetest.SpanStubs{
		span(1, tracetest.SpanStub{Name: "a"}), span(2, tracetest.SpanStub{Name: "a"}),
		span(3, tracetest.SpanStub{Name: "b", Resource: shop, Status: sdktrace.Status{Code: codes.Error}, Links: []sdktrace.Link{{SpanContext: lost}}}),
		span(4, tracetest.SpanStub{Name: "c", Parent: lost}),
	})
	want := "a (unspecified) ×2\n\nc (unspecified), its parent was not exported\n\n" +
		"shop: b (unspecified), failed\n  links a span that was not exported as ?\n"
	if got := spans.Topology(); got != want {
		t.Errorf("the topology is\n%s\nwant\n%s", got, want)
	}
}

func Example() {
	fmt.Print(flow("").Topology())
	// Output:
	// POST /orders (internal)
	//   publish orders.cancelled (producer)
	//   publish orders.created (producer)
	//
	// process orders.created (consumer)
	//   links publish orders.created as triggered_by
	//   charge (internal)
}
