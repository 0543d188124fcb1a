package test

// The pitfalls of tracing JetStream, by number, each on an embedded server:
//
//	 1 header names and values          11 consumers of headers alone
//	 2 malformed contexts               12 settling twice, or not in time
//	 3 shared messages                  13 panic, Goexit, double End
//	 4 stale headers                    14 shutdown mid-batch (shutdown_test.go)
//	 5 unsampled producers              15 ambient parents
//	 6 redelivery                       16 metrics (metrics_test.go, receive_test.go)
//	 7 large batches                    17 credentials in addresses
//	 8 a future is read once            18 baggage that is too large
//	 9 duplicates                       19 secrets in errors
//	10 direct gets and schedules
//
// Tests that need nothing but a message's headers are beside the code.

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// delivered stores a message as a foreign producer would, and returns it as it is
// delivered.
func delivered(tb testing.TB, js jetstream.JetStream, header nats.Header) jetstream.Msg {
	tb.Helper()
	ack, err := js.PublishMsg(context.Background(), &nats.Msg{Subject: "orders.created.1", Header: header})
	if err != nil {
		tb.Fatal(err)
	}
	msgs := mustFetch(tb, js, "payments", 1)
	if md, err := msgs[0].Metadata(); err != nil || md.Sequence.Stream != ack.Sequence {
		tb.Fatalf("delivered %+v, %v, want sequence %d", md, err, ack.Sequence)
	}
	return msgs[0]
}

func TestPitfall01HeaderNames(t *testing.T) {
	js := mustJetStream(t)
	other := "00-ffffffffffffffffffffffffffffffff-" + spanID1 + "-01"
	for _, tt := range []struct {
		name    string
		header  nats.Header
		links   int
		members int
	}{
		{"Nil", nil, 0, 0},
		{"Empty", nats.Header{}, 0, 0},
		{"NoValue", nats.Header{"traceparent": {}}, 0, 0},
		{"EmptyValue", nats.Header{"traceparent": {""}}, 0, 0},
		{"Verbatim", nats.Header{"traceparent": {valid}}, 1, 0},
		{"Folded", nats.Header{"Traceparent": {valid}}, 1, 0},
		{"Upper", nats.Header{"TRACEPARENT": {valid}}, 1, 0},
		{"VerbatimFirst", nats.Header{"TRACEPARENT": {other}, "traceparent": {valid}}, 1, 0},
		{"Renamed", nats.Header{"Xraceparent": {valid}}, 1, 0},
		{"FoldedInOrder", nats.Header{"traceParent": {other}, "TraceParent": {other}, "TRACEPARENT": {valid}}, 1, 0},
		{"EmptyGivesWay", nats.Header{"traceparent": {""}, "Traceparent": {}, "TRACEPARENT": {valid}}, 1, 0},
		{"RenamedLast", nats.Header{"Xraceparent": {other}, "Traceparent": {valid}}, 1, 0},
		{"TwoValues", nats.Header{"traceparent": {valid, other}}, 1, 0},
		{"Baggage", nats.Header{"baggage": {"a=1", "b=2,c=3"}}, 0, 3},
		{"FoldedBaggage", nats.Header{"Baggage": {"a=1", "b=2"}, "traceparent": {valid}}, 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			err := tap.Process(context.Background(), delivered(t, js, tt.header), func(ctx context.Context, msg jetstream.Msg) error {
				if got := baggage.FromContext(ctx).Len(); got != tt.members {
					t.Errorf("%d members of baggage, want %d", got, tt.members)
				}
				return msg.Ack()
			})
			if err != nil {
				t.Fatal(err)
			}
			wantLinks(t, tap.only(t, "process orders.created.{order_id}"), tt.links)
		})
	}
}

// wantLinks wants a root with n links to the context in valid.
func wantLinks(tb testing.TB, s sdktrace.ReadOnlySpan, n int) {
	tb.Helper()
	wantRoot(tb, s)
	if len(s.Links()) != n {
		tb.Fatalf("%d links, want %d", len(s.Links()), n)
	}
	for _, l := range s.Links() {
		if l.SpanContext.TraceID().String() != traceID1 || l.SpanContext.SpanID().String() != spanID1 {
			tb.Errorf("link leads to %v", l.SpanContext)
		}
	}
}

func TestPitfall02MalformedContexts(t *testing.T) {
	js := mustJetStream(t)
	garbage := strings.Repeat("a", 60<<10) // with its name as much as a server takes
	for _, tt := range []struct {
		name   string
		header nats.Header
		links  int
	}{
		{"UpperCaseHex", nats.Header{"traceparent": {strings.ToUpper(valid)}}, 0},
		{"SpaceWithin", nats.Header{"traceparent": {strings.Replace(valid, "-", " ", 1)}}, 0},
		{"ZeroTraceID", nats.Header{"traceparent": {"00-00000000000000000000000000000000-" + spanID1 + "-01"}}, 0},
		{"ZeroSpanID", nats.Header{"traceparent": {"00-" + traceID1 + "-0000000000000000-01"}}, 0},
		{"VersionFF", nats.Header{"traceparent": {"ff" + valid[2:]}}, 0},
		{"Flags04", nats.Header{"traceparent": {valid[:53] + "04"}}, 0},
		{"ExtraField", nats.Header{"traceparent": {valid + "-more"}}, 0},
		{"Garbage", nats.Header{"traceparent": {garbage}}, 0},
		{"GarbageTracestate", nats.Header{"traceparent": {valid}, "tracestate": {garbage}}, 1},
		{"GarbageBaggage", nats.Header{"traceparent": {valid}, "baggage": {garbage}}, 1},
		{"Version01", nats.Header{"traceparent": {"01-" + traceID1 + "-" + spanID1 + "-03-more"}}, 1},
		{"BadTracestate", nats.Header{"traceparent": {valid}, "tracestate": {"=,="}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			if err := tap.Process(context.Background(), delivered(t, js, tt.header), ack); err != nil {
				t.Fatal(err)
			}
			wantLinks(t, tap.only(t, "process orders.created.{order_id}"), tt.links)
		})
	}
}

// Under the race detector.
func TestPitfall03SharedMessage(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	roomy := make([]string, 1, 4) // an Add to a careless copy writes into this array
	roomy[0] = "1"
	msg := &nats.Msg{Subject: "orders.created.1", Header: nats.Header{"tracestate": {"old=1"}, "kept": {"1"}, "roomy": roomy}}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if i%2 == 0 {
				if _, err := tap.Publish(context.Background(), js, msg, jetstream.WithExpectStream("ORDERS")); err != nil {
					t.Error(err)
				}
				return
			}
			_, send := tap.StartSend(context.Background(), msg)
			send.Msg.Header.Add("roomy", fmt.Sprint(i))
			send.Msg.Header.Set("kept", "2")
			ack, err := js.PublishMsg(context.Background(), send.Msg)
			send.End(ack, err)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(msg.Header) != 3 || msg.Header.Get("kept") != "1" || len(msg.Header["roomy"]) != 1 {
		t.Errorf("header became %v", msg.Header)
	}
	seen := map[string]bool{}
	for _, m := range mustFetch(t, js, "payments", 16) {
		seen[m.Headers().Get("traceparent")] = true
		if len(m.Headers()["tracestate"]) != 0 {
			t.Errorf("stale tracestate %v", m.Headers()["tracestate"])
		}
	}
	if len(seen) != 16 {
		t.Errorf("%d contexts, want 16", len(seen))
	}
}

// A stale tracestate, or the context of a message that is sent anew without a
// span, does not reach consumers.
func TestPitfall04StaleHeaders(t *testing.T) {
	js := mustJetStream(t)
	stale := nats.Header{"traceparent": {"malformed"}, "Tracestate": {"old=1"}, "baggage": {"old=1"}, "kept": {"a", "b"}}
	for _, tt := range []struct {
		name     string
		provider trace.TracerProvider
		want     int // headers
	}{
		{"Span", sdktrace.NewTracerProvider(), 2},
		{"NoSpan", noProvider, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample(), tracing.WithTracerProvider(tt.provider))
			if _, err := tap.Publish(context.Background(), js, &nats.Msg{Subject: "orders.created.1", Header: stale}); err != nil {
				t.Fatal(err)
			}
			got := mustFetch(t, js, tt.name, 1)
			_ = got[0].Ack()
			if h := got[len(got)-1].Headers(); len(h["kept"]) != 2 || len(h) != tt.want {
				t.Errorf("header is %v", h)
			}
			if err := js.DeleteStream(context.Background(), "ORDERS"); err != nil {
				t.Fatal(err)
			}
			mustStream(t, js)
		})
	}
}

func TestPitfall05UnsampledProducer(t *testing.T) {
	js := mustJetStream(t)
	dropped, kept := valid[:53]+"00", valid
	t.Run("LinkIsKept", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		_ = tap.Process(context.Background(), delivered(t, js, nats.Header{"traceparent": {dropped}}), ack)
		s := tap.only(t, "process orders.created.{order_id}")
		wantLinks(t, s, 1)
		if s.Links()[0].SpanContext.IsSampled() {
			t.Error("the link says that its target was sampled")
		}
	})
	t.Run("NothingIsForced", func(t *testing.T) {
		tap := newTap(sdktrace.NeverSample())
		_ = tap.Process(context.Background(), delivered(t, js, nats.Header{"traceparent": {kept}}), ack)
		if n := len(tap.spans.Ended()); n != 0 {
			t.Errorf("a link forced %d spans past the sampler", n)
		}
	})
}

func TestPitfall06Redelivery(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		err := tap.Process(context.Background(), mustFetch(t, js, "payments", 1)[0], func(_ context.Context, msg jetstream.Msg) error {
			if i == 0 {
				return msg.Nak()
			}
			return msg.Ack()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	spans := tap.named("process orders.created.{order_id}")
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	for i, s := range spans {
		wantRoot(t, s)
		wantLink(t, s, tap.only(t, "publish orders.created.{order_id}").SpanContext())
		wantAttrs(t, s.Attributes(), map[string]string{
			"messaging.nats.message.delivery_count": fmt.Sprint(i + 1),
			"messaging.nats.message.settlement":     []string{"nak", "ack"}[i],
		})
	}
	if spans[0].SpanContext().TraceID() == spans[1].SpanContext().TraceID() {
		t.Error("both deliveries are in one trace")
	}
}

// 200 links of 200 messages, where the SDK's default would keep 128 and drop the
// oldest.
func TestPitfall07LargeBatch(t *testing.T) {
	const n = 200
	js := mustJetStream(t)
	for _, tt := range []struct {
		name    string
		limit   int
		dropped int
	}{{"Unlimited", -1, 0}, {"SDKDefault", sdktrace.DefaultLinkCountLimit, n - sdktrace.DefaultLinkCountLimit}} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample(), tracing.WithDestinationTemplate(nil))
			limits := sdktrace.NewSpanLimits()
			limits.LinkCountLimit = tt.limit
			consumer := tracing.New(tracing.WithPropagators(w3c()), tracing.WithTracerProvider(
				sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(tap.spans), sdktrace.WithRawSpanLimits(limits))))
			for range n {
				if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1")); err != nil {
					t.Fatal(err)
				}
			}
			msgs := mustFetch(t, js, tt.name, n)
			if err := consumer.ProcessBatch(context.Background(), msgs, func(context.Context, []jetstream.Msg) error { return nil }); err != nil {
				t.Fatal(err)
			}
			s := tap.only(t, "process")
			if len(s.Links()) != n-tt.dropped || s.DroppedLinks() != tt.dropped {
				t.Errorf("%d links, %d dropped", len(s.Links()), s.DroppedLinks())
			}
			if stream, err := js.Stream(context.Background(), "ORDERS"); err != nil || stream.Purge(context.Background()) != nil {
				t.Fatal(err)
			}
		})
	}
}
