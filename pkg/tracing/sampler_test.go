package tracing_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ordertrail/pkg/tracing"
)

func TestLinkAware(t *testing.T) {
	tracer := tracing.New(tracing.WithPropagator(w3c()))
	kept := tracer.Link(nats.Header{"traceparent": {valid}})
	dropped := tracer.Link(nats.Header{"traceparent": {valid[:53] + "00"}})
	foreign := trace.Link{SpanContext: kept.SpanContext}
	parent := func(sampled bool) context.Context {
		l := dropped
		if sampled {
			l = kept
		}
		return trace.ContextWithRemoteSpanContext(context.Background(), l.SpanContext)
	}
	on, off := sdktrace.AlwaysSample(), sdktrace.NeverSample()
	anySampled := []tracing.SamplerOption{tracing.AnySampled()}
	for _, tt := range []struct {
		name  string
		root  sdktrace.Sampler
		opts  []tracing.SamplerOption
		ctx   context.Context
		links []trace.Link
		want  bool
	}{
		{"NoLinkOn", on, nil, nil, nil, true},
		{"NoLinkOff", off, nil, nil, nil, false},
		{"KeptLink", off, nil, nil, []trace.Link{kept}, true},
		{"DroppedLink", on, nil, nil, []trace.Link{dropped}, false},
		{"FirstKept", off, nil, nil, []trace.Link{kept, dropped}, true},
		{"FirstDropped", on, nil, nil, []trace.Link{dropped, kept}, false},
		{"AnyKept", off, anySampled, nil, []trace.Link{dropped, kept}, true},
		{"AnyNone", on, anySampled, nil, []trace.Link{dropped, dropped}, false},
		{"AnyNoLink", on, anySampled, nil, nil, true},
		{"Foreign", off, nil, nil, []trace.Link{foreign}, false},
		{"ForeignThenDropped", on, nil, nil, []trace.Link{foreign, dropped}, false},
		{"Invalid", on, nil, nil, []trace.Link{{Attributes: kept.Attributes}}, true},
		{"ParentKept", off, nil, parent(true), []trace.Link{dropped}, true},
		{"ParentDropped", on, nil, parent(false), []trace.Link{kept}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.ctx == nil {
				tt.ctx = context.Background()
			}
			for _, s := range []sdktrace.Sampler{
				tracing.LinkAware(tt.root, tt.opts...),
				sdktrace.ParentBased(tracing.LinkAware(tt.root, tt.opts...)),
			} {
				got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: tt.ctx, TraceID: trace.TraceID{1}, Links: tt.links})
				if (got.Decision == sdktrace.RecordAndSample) != tt.want {
					t.Errorf("decision %v, want kept %t", got.Decision, tt.want)
				}
			}
		})
	}
	if d := tracing.LinkAware(on).Description(); !strings.HasPrefix(d, "ParentBased{root:LinkAware{AlwaysOnSampler") {
		t.Errorf("description is %s", d)
	}
}

// seededIDs makes the same trace in each run of the tests.
type seededIDs struct{ *rand.ChaCha8 }

func (s seededIDs) NewIDs(ctx context.Context) (id trace.TraceID, _ trace.SpanID) {
	binary.BigEndian.PutUint64(id[:8], s.Uint64())
	binary.BigEndian.PutUint64(id[8:], s.Uint64())
	return id, s.NewSpanID(ctx, id)
}

func (s seededIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], s.Uint64())
	return id
}

func TestLinkedTracesAreKeptTogether(t *testing.T) {
	const orders, ratio = 10_000, 0.1
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(tracing.LinkAware(sdktrace.TraceIDRatioBased(ratio))),
		sdktrace.WithIDGenerator(seededIDs{rand.NewChaCha8([32]byte{1})}))
	tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(w3c()))
	kept := 0
	for range orders {
		_, send := tracer.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
		send.End(nil, nil)
		sampled := strings.HasSuffix(send.Msg.Header.Get("traceparent"), "-01")
		if sampled {
			kept++
		}
		// Two hops: what a consumer publishes is in its own trace, and so on.
		_ = tracer.Process(context.Background(), arrived(send.Msg.Header), func(ctx context.Context, _ jetstream.Msg) error {
			if got := trace.SpanContextFromContext(ctx).IsSampled(); got != sampled {
				t.Fatalf("producer kept: %t, consumer kept: %t", sampled, got)
			}
			_, next := tracer.StartSend(ctx, nats.NewMsg("orders.paid.1"))
			next.End(nil, nil)
			return tracer.Process(context.Background(), arrived(next.Msg.Header), func(ctx context.Context, _ jetstream.Msg) error {
				if got := trace.SpanContextFromContext(ctx).IsSampled(); got != sampled {
					t.Fatalf("producer kept: %t, second consumer kept: %t", sampled, got)
				}
				return nil
			})
		})
	}
	if dev := math.Abs(float64(kept) - orders*ratio); dev > 4*math.Sqrt(orders*ratio*(1-ratio)) {
		t.Errorf("%d of %d kept, too far from %g", kept, orders, ratio)
	}
}

func TestUnsampledProducerIsLinked(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	_ = tap.Process(context.Background(), arrived(nats.Header{"traceparent": {valid[:53] + "00"}}), nothing)
	if s := tap.only(t, "process orders.created"); len(s.Links()) != 1 || s.Links()[0].SpanContext.IsSampled() {
		t.Errorf("links are %v", s.Links())
	}
	tap = newTap(sdktrace.NeverSample())
	_ = tap.Process(context.Background(), arrived(nats.Header{"traceparent": {valid}}), nothing)
	if n := len(tap.spans.Ended()); n != 0 {
		t.Errorf("a link forced %d spans past the sampler", n)
	}
}
