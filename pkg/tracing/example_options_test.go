package tracing_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// exampleMessage was published elsewhere, with a context and baggage.
func exampleMessage() jetstream.Msg {
	return arrived(nats.Header{
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"baggage":     {"order.id=1"},
	})
}

// attributesOf prints each span that ends, with those of its attributes and of
// its links' that are named, by the last part of their names.
type attributesOf struct {
	printer
	names []attribute.Key
}

func (p attributesOf) OnEnd(s sdktrace.ReadOnlySpan) {
	fmt.Print(s.Name())
	all := s.Attributes()
	for _, l := range s.Links() {
		all = append(all, l.Attributes...)
	}
	for _, name := range p.names {
		for _, a := range all {
			if a.Key == name {
				fmt.Printf(" %s=%s", name[strings.LastIndex(string(name), ".")+1:], a.Value.String())
			}
		}
	}
	fmt.Println()
}

func exampleAttributes(names ...attribute.Key) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(attributesOf{names: names}))
}

func ExampleNew() {
	// A Tracer of the global providers, which may be set later:
	_ = tracing.New()

	// A service that shares its process with others gives its own:
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
		tracing.WithServerAddress("nats.example:4222"),
		tracing.WithDestinationTemplate(exampleTemplate),
	)
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	// Output:
	// process orders.created: root, 1 links
}

func ExampleWithTracerProvider() {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(printer{}))
	tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(propagation.TraceContext{}))
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	// Output:
	// process ORDERS: root, 1 links
}

func ExampleWithMeterProvider() {
	reader := sdkmetric.NewManualReader()
	tracer := tracing.New(tracing.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)

	var measured metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &measured); err != nil {
		fmt.Println(err)
	}
	for _, m := range measured.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit)
	}
	// Unordered output:
	// messaging.process.duration s
	// messaging.client.consumed.messages {message}
}

func ExampleWithPropagator() {
	// Without Baggage, none of it reaches the handler, nor other services.
	for _, p := range []propagation.TextMapPropagator{
		propagation.TraceContext{},
		propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	} {
		tracer := tracing.New(tracing.WithPropagator(p))
		_ = tracer.Process(context.Background(), exampleMessage(), func(ctx context.Context, _ jetstream.Msg) error {
			fmt.Printf("%q\n", baggage.FromContext(ctx))
			return nil
		})
	}
	// Output:
	// ""
	// "order.id=1"
}

func ExampleWithServerAddress() {
	// As nats.Conn.ConnectedUrl may return it: the credentials are left out.
	tracer := tracing.New(
		tracing.WithTracerProvider(exampleAttributes("server.address", "server.port")),
		tracing.WithServerAddress("nats://user:password@nats.example:4222"),
	)
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	// Output:
	// process ORDERS address=nats.example port=4222
}

func ExampleWithDestinationTemplate() {
	tracer := tracing.New(
		tracing.WithTracerProvider(exampleAttributes("messaging.destination.template")),
		tracing.WithDestinationTemplate(func(subject string) string {
			if strings.HasPrefix(subject, "orders.created.") {
				return "orders.created.{order_id}"
			}
			return ""
		}),
	)
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	// Output:
	// process orders.created template=orders.created.{order_id}
}

func ExampleWithBodySize() {
	tracer := tracing.New(tracing.WithTracerProvider(exampleAttributes("messaging.message.body.size")), tracing.WithBodySize())
	_, send := tracer.StartSend(context.Background(), &nats.Msg{Subject: "orders.created.1", Data: []byte("{}")})
	send.End(nil, nil)
	// Output:
	// publish size=2
}

func ExampleTopologyParent() {
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.TraceContext{}),
		tracing.TopologyParent(),
	)
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	// Output:
	// process ORDERS: child, 1 links
}

func ExampleRelationship() {
	tracer := exampleLinks("link.relationship")
	_ = tracer.Process(context.Background(), exampleMessage(), nothing, tracing.Relationship("replay_of"))
	// Output:
	// process ORDERS relationship=replay_of
}

// exampleLinks is a Tracer that prints attributes.
func exampleLinks(names ...attribute.Key) *tracing.Tracer {
	return tracing.New(tracing.WithTracerProvider(exampleAttributes(names...)), tracing.WithPropagator(propagation.TraceContext{}))
}

func ExampleEphemeral() {
	tracer := exampleLinks("messaging.consumer.group.name")
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	_ = tracer.Process(context.Background(), exampleMessage(), nothing, tracing.Ephemeral())
	// Output:
	// process ORDERS name=payments
	// process ORDERS
}

func ExampleUntrusted() {
	tracer := tracing.New(
		tracing.WithTracerProvider(examplePrinter()),
		tracing.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
		tracing.TopologyParent(),
	)
	_ = tracer.Process(context.Background(), exampleMessage(), func(ctx context.Context, _ jetstream.Msg) error {
		fmt.Printf("%q\n", baggage.FromContext(ctx))
		return nil
	}, tracing.Untrusted())
	// Output:
	// ""
	// process ORDERS: root, 1 links
}

func ExampleDestination() {
	tracer := exampleLinks()
	_ = tracer.ProcessBatch(context.Background(), []jetstream.Msg{exampleMessage()}, func(context.Context, []jetstream.Msg) error {
		return nil
	}, tracing.Destination("orders"))
	// Output:
	// process orders
}

func ExampleLinkAttributes() {
	tracer := exampleLinks("order.id")
	_ = tracer.Process(context.Background(), exampleMessage(), nothing, tracing.LinkAttributes(func(msg jetstream.Msg) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("order.id", strings.TrimPrefix(msg.Subject(), "orders.created."))}
	}))
	// Output:
	// process ORDERS id=1
}

func ExampleAttributes() {
	tracer := exampleLinks("analytics.replay")
	_ = tracer.Process(context.Background(), exampleMessage(), nothing, tracing.Attributes(attribute.Bool("analytics.replay", true)))
	// Output:
	// process ORDERS replay=true
}

func ExampleHeaderCarrier() {
	// Other clients write other cases.
	header := nats.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	ctx := propagation.TraceContext{}.Extract(context.Background(), tracing.HeaderCarrier(header))
	fmt.Println(trace.SpanContextFromContext(ctx).SpanID())
	// Output:
	// b7ad6b7169203331
}

func ExampleLinkAware() {
	// None of a service's own traces, but those that others have begun and keep.
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(tracing.LinkAware(sdktrace.NeverSample())),
		sdktrace.WithSpanProcessor(printer{}),
	)
	tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(propagation.TraceContext{}))
	_ = tracer.Process(context.Background(), arrived(nil), nothing)
	_ = tracer.Process(context.Background(), exampleMessage(), nothing)
	// Output:
	// process ORDERS: root, 1 links
}

func ExampleAnySampled() {
	dropped := arrived(nats.Header{"traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}})
	for _, opts := range [][]tracing.SamplerOption{nil, {tracing.AnySampled()}} {
		provider := sdktrace.NewTracerProvider(
			sdktrace.WithSampler(tracing.LinkAware(sdktrace.NeverSample(), opts...)),
			sdktrace.WithSpanProcessor(printer{}),
		)
		tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(propagation.TraceContext{}))
		fmt.Println("a batch that begins with a dropped one:")
		_ = tracer.ProcessBatch(context.Background(), []jetstream.Msg{dropped, exampleMessage()}, func(context.Context, []jetstream.Msg) error {
			return nil
		})
	}
	// Output:
	// a batch that begins with a dropped one:
	// a batch that begins with a dropped one:
	// process ORDERS: root, 2 links
}
