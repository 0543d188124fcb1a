package sampling_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/sampling"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
)

var (
	tracer  = tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()), tracing.WithPropagators(propagation.TraceContext{}))
	kept    = tracer.Link(nats.Header{"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}})
	dropped = tracer.Link(nats.Header{"traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}})
)

// decide prints the decision about a root span with these links.
func decide(s sdktrace.Sampler, links ...trace.Link) {
	result := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: trace.TraceID{15: 1}, Links: links})
	fmt.Printf("%t %q\n", result.Decision == sdktrace.RecordAndSample, result.Tracestate)
}

func ExampleLinkAware() {
	s := sampling.LinkAware(sdktrace.NeverSample())
	decide(s)
	decide(s, kept)
	decide(s, dropped, kept)
	// Output:
	// false ""
	// true "ot=rv:48eb211c80319c"
	// false "ot=rv:ce929d0e0e4736"
}

func ExampleAnySampled() {
	decide(sampling.LinkAware(sdktrace.NeverSample(), sampling.AnySampled()), dropped, kept)
	// Output: true "ot=rv:48eb211c80319c"
}

func ExampleConsistent() {
	for _, p := range []float64{0.1, 0.25, 0.5, 1} {
		decide(sampling.Consistent(p), dropped)
	}
	// Output:
	// false "ot=rv:ce929d0e0e4736"
	// true "ot=th:c;rv:ce929d0e0e4736"
	// true "ot=th:8;rv:ce929d0e0e4736"
	// true "ot=th:0;rv:ce929d0e0e4736"
}
