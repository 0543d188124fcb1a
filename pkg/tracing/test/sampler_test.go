package test

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

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/pkg/tracing/sampling"
)

func TestLinkAware(t *testing.T) {
	tracer := tracing.New(tracing.WithPropagators(w3c()))
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
	anySampled := []sampling.Option{sampling.AnySampled()}
	for _, tt := range []struct {
		name  string
		root  sdktrace.Sampler
		opts  []sampling.Option
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
				sampling.LinkAware(tt.root, tt.opts...),
				sdktrace.ParentBased(sampling.LinkAware(tt.root, tt.opts...)),
			} {
				got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: tt.ctx, TraceID: trace.TraceID{1}, Links: tt.links})
				if (got.Decision == sdktrace.RecordAndSample) != tt.want {
					t.Errorf("decision %v, want kept %t", got.Decision, tt.want)
				}
			}
		})
	}
	if d := sampling.LinkAware(on).Description(); !strings.HasPrefix(d, "ParentBased{root:LinkAware{AlwaysOnSampler") {
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

// tenThousandOrders follows orders through a shop whose services sample with
// sampler: created is read by two services, whose outcomes meet in a third. It
// returns how many traces of created were kept, and how many links lead from a
// kept span to one that was dropped.
func tenThousandOrders(t *testing.T, sampler sdktrace.Sampler) (kept, links, broken int) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler),
		sdktrace.WithIDGenerator(seededIDs{rand.NewChaCha8([32]byte{1})}))
	tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagators(w3c()))
	publish := func(ctx context.Context) nats.Header {
		_, send := tracer.StartSend(ctx, nats.NewMsg("orders.created.1"))
		send.End(nil, nil)
		return send.Msg.Header
	}
	look := func(ctx context.Context, want int) {
		s, ok := trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan)
		if !ok || !s.SpanContext().IsSampled() {
			return
		}
		if len(s.Links()) != want {
			t.Fatalf("%d links, want %d", len(s.Links()), want)
		}
		for _, l := range s.Links() {
			links++
			if !l.SpanContext.IsSampled() {
				broken++
			}
		}
	}
	for range 10_000 {
		created := publish(context.Background())
		if strings.HasSuffix(created.Get("traceparent"), "-01") {
			kept++
		}
		var outcomes []nats.Header
		for range 2 {
			_ = tracer.Process(context.Background(), arrived(created), func(ctx context.Context, _ jetstream.Msg) error {
				look(ctx, 1)
				outcomes = append(outcomes, publish(ctx))
				return nil
			})
		}
		_ = tracer.Process(context.Background(), arrived(outcomes[1]), func(ctx context.Context, _ jetstream.Msg) error {
			look(ctx, 1)
			ctx, span := provider.Tracer("test").Start(ctx, "fulfill order",
				trace.WithLinks(tracer.Link(outcomes[0]), tracer.Link(outcomes[1])))
			defer span.End()
			look(ctx, 2)
			return nil
		})
	}
	return kept, links, broken
}

// Of 10,000 orders at 10 % the kept share is what chance allows, and no link
// leads from a kept trace to a dropped one.
func TestTenThousandOrders(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sampler func(sdktrace.Sampler) sdktrace.Sampler
		whole   bool
	}{
		{"LinkAware", func(root sdktrace.Sampler) sdktrace.Sampler { return sampling.LinkAware(root) }, true},
		{"AnySampled", func(root sdktrace.Sampler) sdktrace.Sampler { return sampling.LinkAware(root, sampling.AnySampled()) }, true},
		// What the SDK has: nine of ten links of a kept trace lead nowhere.
		{"ParentBased", func(root sdktrace.Sampler) sdktrace.Sampler { return sdktrace.ParentBased(root) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const n, ratio = 10_000, 0.1
			kept, links, broken := tenThousandOrders(t, tt.sampler(sdktrace.TraceIDRatioBased(ratio)))
			if dev := math.Abs(float64(kept) - n*ratio); dev > 4*math.Sqrt(n*ratio*(1-ratio)) {
				t.Errorf("%d of %d kept, too far from %g", kept, n, n*ratio)
			}
			switch {
			case tt.whole && (broken != 0 || links != 5*kept):
				t.Errorf("%d of %d links lead to a dropped trace; %d orders kept", broken, links, kept)
			case !tt.whole && float64(broken) < 0.8*float64(links):
				t.Errorf("only %d of %d links are broken: this sampler would do", broken, links)
			}
			t.Logf("%d orders kept; of %d links %d lead to a dropped trace", kept, links, broken)
		})
	}
}

// A batch follows its first message, which keeps the rate, or any of them, which
// does not.
func TestBatchRate(t *testing.T) {
	const batches, size, ratio = 2_000, 10, 0.1
	for _, tt := range []struct {
		name string
		opts []sampling.Option
		rate float64
	}{
		{"First", nil, ratio},
		{"Any", []sampling.Option{sampling.AnySampled()}, 1 - math.Pow(1-ratio, size)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampling.LinkAware(sdktrace.TraceIDRatioBased(ratio), tt.opts...)),
				sdktrace.WithIDGenerator(seededIDs{rand.NewChaCha8([32]byte{2})}))
			tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagators(w3c()))
			kept := 0.0
			for range batches {
				msgs := make([]jetstream.Msg, size)
				for i := range msgs {
					_, send := tracer.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
					send.End(nil, nil)
					msgs[i] = arrived(send.Msg.Header)
				}
				_ = tracer.ProcessBatch(context.Background(), msgs, func(ctx context.Context, _ []jetstream.Msg) error {
					if trace.SpanContextFromContext(ctx).IsSampled() {
						kept++
					}
					return nil
				})
			}
			if want := batches * tt.rate; math.Abs(kept-want) > 4*math.Sqrt(want*(1-tt.rate)) {
				t.Errorf("%g of %d batches kept, want about %g", kept, batches, want)
			}
		})
	}
}
