package test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats.go"
	collector "github.com/open-telemetry/opentelemetry-collector-contrib/pkg/sampling"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/sampling"
)

// sampled returns the decision about a root span that links a message with this
// context, and the ot member of the new trace.
func sampled(s sdktrace.Sampler, traceparent, ot string) (bool, string) {
	tracer := tracing.New(tracing.WithTracerProvider(noProvider), tracing.WithPropagators(propagation.TraceContext{}))
	h := nats.Header{"traceparent": {traceparent}}
	if ot != "" {
		h["tracestate"] = []string{"ot=" + ot}
	}
	r := s.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: context.Background(), TraceID: trace.TraceID{1}, Links: []trace.Link{tracer.Link(h)},
	})
	return r.Decision == sdktrace.RecordAndSample, r.Tracestate.Get("ot")
}

// A root span takes over the randomness of the message that it links.
func TestRandomnessOfLinks(t *testing.T) {
	follow, consistent := sampling.LinkAware(sdktrace.NeverSample()), sampling.Consistent(0.5)
	for _, tt := range []struct {
		sampler sdktrace.Sampler
		ot      string
		kept    bool
		want    string
	}{
		{follow, "", true, "rv:48eb211c80319c"}, // the low 56 bits of the trace id
		{follow, "rv:abcdef01234567", true, "rv:abcdef01234567"},
		{follow, "th:8;rv:abcdef01234567", true, "th:8;rv:abcdef01234567"},
		{follow, "rv:nonsense;th:", true, "rv:48eb211c80319c"},
		{consistent, "", false, "rv:48eb211c80319c"},
		{consistent, "rv:80000000000000;th:c", true, "th:8;rv:80000000000000"},
		{consistent, "rv:7fffffffffffff;th:0", false, "rv:7fffffffffffff"},
	} {
		kept, ot := sampled(tt.sampler, valid, tt.ot)
		if kept != tt.kept || ot != tt.want {
			t.Errorf("%s with %q: %t, %q; want %t, %q", tt.sampler.Description(), tt.ot, kept, ot, tt.kept, tt.want)
		}
	}
}

// What a service keeps at 5 % is among what others keep at 20 %, and the rates hold.
func TestConsistentNests(t *testing.T) {
	const n = 20_000
	random := rand.New(rand.NewPCG(1, 2))
	low, high := sampling.Consistent(0.05), sampling.Consistent(0.2)
	var kept [2]float64
	for range n {
		header := fmt.Sprintf("00-%016x%016x-%s-01", random.Uint64()|1, random.Uint64(), spanID1)
		ot := ""
		if random.IntN(2) == 0 {
			ot = fmt.Sprintf("rv:%014x", random.Uint64()>>8)
		}
		inLow, _ := sampled(low, header, ot)
		inHigh, _ := sampled(high, header, ot)
		if inLow && !inHigh {
			t.Fatalf("%s %s is kept at 5 %% and dropped at 20 %%", header, ot)
		}
		for i, in := range []bool{inLow, inHigh} {
			if in {
				kept[i]++
			}
		}
	}
	for i, p := range []float64{0.05, 0.2} {
		if share := kept[i] / n; math.Abs(share-p) > 5*math.Sqrt(p*(1-p)/n) {
			t.Errorf("%.4f are kept, want %.2f", share, p)
		}
	}
	for p, want := range map[float64]bool{0: false, math.NaN(): false, -1: false, 1: true, 2: true} {
		if kept, _ := sampled(sampling.Consistent(p), valid, "rv:00000000000000"); kept != want {
			t.Errorf("probability %v keeps: %t", p, kept)
		}
	}
}

// A collector that samples by the same threshold decides like Consistent, and the
// tracestate that Consistent writes means the same to it.
func TestConsistentAgreesWithTheCollector(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, p := range []float64{1e-3, 0.05, 0.1, 0.2, 1. / 3, 0.5, 0.75, 1} {
		threshold, err := collector.ProbabilityToThreshold(p)
		if err != nil {
			t.Fatal(err)
		}
		sampler := sampling.Consistent(p)
		for range 5000 {
			traceID := fmt.Sprintf("%016x%016x", random.Uint64()|1, random.Uint64())
			incoming := []string{"", fmt.Sprintf("rv:%014x", random.Uint64()>>8), fmt.Sprintf("th:c;rv:%014x", random.Uint64()>>8), "th:8"}[random.IntN(4)]
			randomness, err := collector.RValueToRandomness(traceID[18:])
			if err != nil {
				t.Fatal(err)
			}
			if state, err := collector.NewOpenTelemetryTraceState(incoming); err == nil { // it refuses ""
				if explicit, ok := state.RValueRandomness(); ok {
					randomness = explicit
				}
			}
			kept, written := sampled(sampler, "00-"+traceID+"-"+spanID1+"-01", incoming)
			if want := threshold.ShouldSample(randomness); kept != want {
				t.Fatalf("p = %v, trace %s, ot=%s: kept %t, the collector %t", p, traceID, incoming, kept, want)
			}
			state, err := collector.NewOpenTelemetryTraceState(written)
			if err != nil {
				t.Fatalf("ot=%s: %v", written, err)
			}
			if got, ok := state.RValueRandomness(); !ok || got != randomness {
				t.Fatalf("ot=%s has another randomness than ot=%s of trace %s", written, incoming, traceID)
			}
			if got, ok := state.TValueThreshold(); ok != kept || kept && got != threshold {
				t.Fatalf("ot=%s has the threshold %q, want %q", written, state.TValue(), threshold.TValue())
			}
		}
	}
}
