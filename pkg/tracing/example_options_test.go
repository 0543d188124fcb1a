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

	"example.org/ordertrail/pkg/tracing"
)

func ExampleWithTracerProvider() {
	tracer := tracing.New(tracing.WithTracerProvider(print()))
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process: root consumer, 0 links
}

func ExampleWithMeterProvider() {
	reader := sdkmetric.NewManualReader()
	tracer := tracing.New(tracing.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	_ = tracer.Process(ctx, newMessage(), charge)
	var all metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &all)
	for _, m := range all.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit)
	}
	// Unordered output:
	// messaging.process.duration s
	// messaging.client.consumed.messages {message}
}

func ExampleWithPropagators() {
	// Without the Baggage propagator no baggage reaches the handler.
	tracer := tracing.New(tracing.WithTracerProvider(print()), tracing.WithPropagators(propagation.TraceContext{}))
	_ = tracer.Process(ctx, newMessage(), func(ctx context.Context, _ jetstream.Msg) error {
		fmt.Println(baggage.FromContext(ctx).Len(), "members of baggage")
		return nil
	})
	// Output:
	// 0 members of baggage
	// process: root consumer, 1 links
}

func ExampleWithConnection() {
	var nc *nats.Conn // nats.Connect(url)
	_ = tracing.New(tracing.WithConnection(nc))
	// Output:
}

func ExampleWithServerAddress() {
	tracer := tracing.New(tracing.WithTracerProvider(print("server.address", "server.port")),
		tracing.WithServerAddress("nats://user:password@nats.example:4222"))
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process: root consumer, 0 links, server.address=nats.example, server.port=4222
}

func ExampleWithDestinationTemplate() {
	tracer := tracing.New(tracing.WithTracerProvider(print("messaging.destination.template")), tracing.WithDestinationTemplate(template))
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process orders.created.{order_id}: root consumer, 0 links, messaging.destination.template=orders.created.{order_id}
}

func ExampleWithFilter() {
	tracer := tracing.New(tracing.WithTracerProvider(print()), tracing.WithFilter(func(subject string, _ nats.Header) bool {
		return subject != "heartbeats"
	}))
	_, _ = tracer.Publish(ctx, stream{}, nats.NewMsg("heartbeats"))
	_, _ = tracer.Publish(ctx, stream{}, nats.NewMsg("orders.created.1"))
	// Output: publish: root producer, 0 links
}

func ExampleWithSpanAttributes() {
	tracer := tracing.New(tracing.WithTracerProvider(print("order.id")), tracing.WithSpanAttributes(func(subject string, _ nats.Header) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("order.id", strings.TrimPrefix(subject, "orders.created."))}
	}))
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process: root consumer, 0 links, order.id=1
}

func ExampleWithMetricAttributes() {
	reader := sdkmetric.NewManualReader()
	tracer := tracing.New(tracing.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))),
		tracing.WithMetricAttributes(func(string) []attribute.KeyValue { return []attribute.KeyValue{attribute.String("region", "eu")} }))
	_, _ = tracer.Publish(ctx, stream{}, nats.NewMsg("orders.created.1"))
	var all metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &all)
	for _, m := range all.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			region, _ := sum.DataPoints[0].Attributes.Value("region")
			fmt.Println(m.Name, region)
		}
	}
	// Output: messaging.client.sent.messages eu
}

func ExampleWithTopologyParent() {
	tracer := tracing.New(tracing.WithTracerProvider(print()), tracing.WithPropagators(w3c), tracing.WithTopologyParent())
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process: child consumer, 1 links
}

func ExampleWithBodySize() {
	tracer := tracing.New(tracing.WithTracerProvider(print("messaging.message.body.size")), tracing.WithBodySize())
	_ = tracer.Process(ctx, newMessage(), charge)
	// Output: process: root consumer, 0 links, messaging.message.body.size=2
}

func ExampleWithoutSettleSpans() {
	tracer := tracing.New(tracing.WithTracerProvider(print("messaging.nats.message.settlement")), tracing.WithoutSettleSpans())
	_ = tracer.Process(ctx, newMessage(), acknowledge)
	// Output: process: root consumer, 0 links, messaging.nats.message.settlement=ack
}

func ExampleWithRelationship() {
	_ = newTracer("link.relationship").Process(ctx, newMessage(), charge, tracing.WithRelationship("replay_of"))
	// Output: process orders.created.{order_id}: root consumer, 1 links, link.relationship=replay_of
}

func ExampleWithConsumerGroup() {
	_ = newTracer("messaging.consumer.group.name").Process(ctx, newMessage(), charge, tracing.WithConsumerGroup("payments"))
	// Output: process orders.created.{order_id}: root consumer, 1 links, messaging.consumer.group.name=payments
}

func ExampleWithUntrusted() {
	_ = newTracer("link.untrusted").Process(ctx, newMessage(), func(ctx context.Context, _ jetstream.Msg) error {
		fmt.Println(baggage.FromContext(ctx).Len(), "members of baggage")
		return nil
	}, tracing.WithUntrusted())
	// Output:
	// 0 members of baggage
	// process orders.created.{order_id}: root consumer, 1 links, link.untrusted=true
}

func ExampleWithDestination() {
	tracer := tracing.New(tracing.WithTracerProvider(print()), tracing.WithPropagators(w3c))
	_ = tracer.Process(ctx, newMessage(), charge, tracing.WithDestination("orders.created.*"))
	// Output: process orders.created.*: root consumer, 1 links
}

func ExampleWithLinkAttributes() {
	orderID := tracing.WithLinkAttributes(func(msg jetstream.Msg) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("order.id", strings.TrimPrefix(msg.Subject(), "orders.created."))}
	})
	_ = newTracer("order.id").ProcessBatch(ctx, []jetstream.Msg{newMessage()}, chargeAll, orderID)
	// Output: process orders.created.{order_id}: root consumer, 1 links, order.id=1
}

func ExampleWithAttributes() {
	_ = newTracer("analytics.replay").Process(ctx, newMessage(), charge, tracing.WithAttributes(attribute.Bool("analytics.replay", true)))
	// Output: process orders.created.{order_id}: root consumer, 1 links, analytics.replay=true
}
