package trail_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

// BenchmarkStoreOnEnd compares the cost of a span with and without the store.
func BenchmarkStoreOnEnd(b *testing.B) {
	run := func(b *testing.B, options ...sdktrace.TracerProviderOption) {
		tracer := sdktrace.NewTracerProvider(options...).Tracer("bench")
		_, by := happy(1)
		attributes := oteltrace.WithAttributes(by["pay"].Attributes...)
		link := oteltrace.WithLinks(oteltrace.Link{SpanContext: by["created"].SpanContext, Attributes: by["pay"].Links[0].Attributes})
		ids := make([]attribute.KeyValue, 20_000)
		for i := range ids {
			ids[i] = attribute.String(key, newStory(i).id)
		}
		i := 0
		for b.Loop() {
			_, span := tracer.Start(context.Background(), "process orders.created", attributes, link)
			span.SetAttributes(ids[i/26%len(ids)])
			span.End()
			i++
		}
	}
	b.Run("none", func(b *testing.B) { run(b) })
	b.Run("store", func(b *testing.B) { run(b, sdktrace.WithSpanProcessor(trail.NewStore(0))) })
}
