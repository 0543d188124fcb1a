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
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

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

// flow publishes twice and processes the first message as the mutant says.
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
	_, first := tracer.StartSend(baggage.ContextWithBaggage(context.Background(), b), nats.NewMsg("orders.created"))
	first.End(nil, nil)
	_, second := tracer.StartSend(context.Background(), nats.NewMsg("orders.cancelled"))
	second.End(nil, nil)

	delivered := first.Msg
	switch mutant {
	case "dropped":
		delivered.Header.Del("traceparent")
	case "wrong":
		delivered.Header.Set("traceparent", second.Msg.Header.Get("traceparent"))
	case "baggage":
		delivered.Header.Del("baggage")
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

func TestMutants(t *testing.T) {
	check(t, flow(""))
	for _, mutant := range []string{"parent", "dropped", "wrong", "baggage"} {
		c := &counter{TB: t}
		if check(c, flow(mutant)); c.errors == 0 {
			t.Errorf("mutant %q passes", mutant)
		}
	}
}

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
	flow("").Golden(t, file)
	if flag.Lookup("linktest.update").Value.String() == "true" {
		return // the mutants must not write the file
	}
	for _, mutant := range []string{"parent", "dropped", "wrong"} {
		c := &counter{TB: t}
		if flow(mutant).Golden(c, file); c.errors == 0 {
			t.Errorf("mutant %q has the golden topology", mutant)
		}
	}
}

func Example() {
	fmt.Print(flow("").Topology())
	// Output:
	// process orders.created (consumer)
	//   links publish orders.created as triggered_by
	//   charge (internal)
	//
	// publish orders.cancelled (producer)
	//
	// publish orders.created (producer)
}
