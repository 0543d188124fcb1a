package receiver_test

import (
	"testing"

	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
	"google.golang.org/grpc"
)

// BenchmarkIngest measures spans per second over one gRPC connection, into the store.
func BenchmarkIngest(b *testing.B) {
	store := trail.NewStore(0)
	addr := serve(b, &receiver.Receiver{Keep: store.Add})
	const n = 1000
	request := traces(n)
	spans := request.Traces().ResourceSpans().At(0).ScopeSpans().At(0).Spans()
	c := client(b, addr)
	i, size := 0, 0
	for b.Loop() {
		b.StopTimer() // new spans, because the store ignores those that it has
		for _, s := range spans.All() {
			s.SetSpanID(spanID(i))
			s.SetTraceID(traceID(i / 4))
			i++
		}
		body := must[[]byte](b)(request.MarshalProto())
		size = len(body)
		b.StartTimer()
		if err := c.Invoke(b.Context(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &body, new([]byte), grpc.ForceCodecV2(receiver.Plain())); err != nil {
			b.Fatal(err)
		}
	}
	if got := store.Size().Added; got != i {
		b.Fatalf("%d spans of %d are kept", got, i)
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "spans/s")
	b.ReportMetric(float64(size)/n, "B/span")
}
