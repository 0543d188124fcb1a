package trail_test

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

// The store returns a span with everything that it had.
func TestStoreKeepsEverything(t *testing.T) {
	s, by := happy(1)
	pay := fail(by["pay"], "timeout")
	pay.Attributes = append(pay.Attributes,
		attribute.Bool("yes", true), attribute.Bool("no", false), attribute.Int64("negative", -1<<62), attribute.Float64("float", 0.1),
		attribute.String("empty", ""), attribute.String("long", strings.Repeat("long ", 1000)), attribute.String("utf8", "⇠ ü"),
		attribute.StringSlice("list", []string{"a", "b"}), attribute.Int64Slice("numbers", []int64{1, 2}))
	pay.Events = append(pay.Events, sdktrace.Event{Name: "exception", Time: s.at(6), Attributes: []attribute.KeyValue{attribute.String("exception.type", "x")}})
	pay.DroppedLinks = 3
	found := find(t, s)
	for _, got := range found.Spans {
		if got.Ref != refOf(pay) {
			continue
		}
		want := trail.Span{
			Ref: refOf(pay), Service: "payments", Name: "process orders.created", Kind: "consumer",
			Start: pay.StartTime, End: pay.EndTime, Status: trail.StatusError, StatusMessage: "timeout", DroppedLinks: 3,
			Events: []trail.Moment{{Name: "exception", Time: s.at(6), Attributes: trail.Attributes{"exception.type": "x"}}},
			Links: []trail.Link{{Ref: refOf(by["created"]), Attributes: trail.Attributes{
				"link.trace_id": refOf(by["created"]).TraceID, "link.event_type": "orders.created", "link.relationship": "triggered_by",
				"messaging.message.id": "orders.created." + s.id, "messaging.destination.name": "orders.created." + s.id, "order.id": s.id,
			}}},
		}
		if got.Attributes["list"] != `["a","b"]` || got.Attributes["numbers"] != "[1,2]" || got.Attributes["negative"] != int64(-1<<62) ||
			got.Attributes["yes"] != true || got.Attributes["no"] != false || got.Attributes["float"] != 0.1 || got.Attributes["empty"] != "" ||
			got.Attributes.Text("utf8") != "⇠ ü" || len(got.Attributes.Text("long")) != 5000 || len(got.Attributes) != len(pay.Attributes) {
			t.Errorf("the attributes are %v", got.Attributes)
		}
		got.Attributes = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the span is\n%+v, want\n%+v", got, want)
		}
		return
	}
	t.Errorf("the span is not among %d spans", len(found.Spans))
}

// The store keeps a span without an order: a later span of the trace may name one.
func TestStoreEarlySpan(t *testing.T) {
	store := trail.NewStore(0)
	s, by := happy(1)
	early := s.child(by["pay"], "dial", oteltrace.SpanKindClient, 6, 7)
	early.Attributes = nil
	s.remove(early)
	add(store, early)
	if found, err := store.Traces(t.Context(), refOf(early).TraceID); err != nil || len(found.Values(key)) != 0 {
		t.Errorf("a span without an order: %v", err)
	}
	add(store, s.spans...)
	if found, err := store.Find(t.Context(), key, s.id, 1000); err != nil || len(found.Spans) != len(s.spans)+1 {
		t.Errorf("the order has %d spans, want %d: %v", len(found.Spans), len(s.spans)+1, err)
	}
}

// The store keeps only the spans that an exporter would get.
func TestStoreUnsampled(t *testing.T) {
	s, by := happy(1)
	by["pay"].SpanContext = by["pay"].SpanContext.WithTraceFlags(0)
	store := stored(s)
	if _, err := store.TraceOf(t.Context(), refOf(by["pay"]).SpanID); !errors.Is(err, trail.ErrNotFound) {
		t.Errorf("an unsampled span: %v", err)
	}
}

func TestStoreNotFound(t *testing.T) {
	store := trail.NewStore(0)
	for _, id := range []string{"", "x", "01a20482-ab51-759f-8537-365521a88cb5", strings.Repeat("0", 32), strings.Repeat("f", 32)} {
		if found, err := store.Find(t.Context(), key, id, 10); err != nil || len(found.Spans) != 0 {
			t.Errorf("order %q: %v, %v", id, found, err)
		}
		if found, err := store.Traces(t.Context(), id); err != nil || len(found.Spans) != 0 {
			t.Errorf("trace %q: %v, %v", id, found, err)
		}
		if _, err := store.TraceOf(t.Context(), id); !errors.Is(err, trail.ErrNotFound) {
			t.Errorf("span %q: %v", id, err)
		}
	}
	if found, err := store.Recent(t.Context(), 10); err != nil || len(found.Spans) != 0 {
		t.Errorf("recent: %v, %v", found, err)
	}
}

// Linking returns the traces whose spans link a trace, and Find searches by any attribute.
func TestStoreSearches(t *testing.T) {
	one, by := happy(1)
	two, _ := happy(2)
	store := stored(one, two)
	found, err := store.Linking(t.Context(), refOf(by["created"]).TraceID)
	if err != nil {
		t.Fatal(err)
	}
	for name, linking := range map[string]bool{"pay": true, "reserve": true, "due": true, "batch": true, "fulfillment": false, "post": false} {
		if tracesOf(found)[refOf(by[name]).TraceID] != linking {
			t.Errorf("the trace of %s is found: %t", name, !linking)
		}
	}
	for traces, want := range map[int]int{1: 1, 10: 4} {
		found, err := store.Find(t.Context(), "messaging.consumer.group.name", "notify", traces)
		if err != nil || len(tracesOf(found)) != want {
			t.Errorf("%d traces of notify, want %d: %v", len(tracesOf(found)), want, err)
		}
	}
}

// Recent returns the newest traces, up to the given number.
func TestStoreRecent(t *testing.T) {
	one, _ := happy(1)
	two, _ := happy(2)
	found, err := stored(one, two).Recent(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	traces := tracesOf(found)
	if ids := found.Values(key); len(traces) != 5 || len(ids) != 1 || ids[0] != two.id {
		t.Errorf("%d traces of %v", len(traces), ids)
	}
}

// The store stays within its bound, as the runtime counts the bytes. It drops the oldest
// traces, and an order with the last of its traces.
func TestStoreMemory(t *testing.T) {
	const limit = 8 << 20
	store := trail.NewStore(limit)
	before := heap()
	most := uint64(0)
	var batch *tracetest.SpanStub
	for i := range 2500 {
		s, by := happy(i)
		if i%100 == 0 { // a hundred orders share a batch
			batch = by["batch"]
		} else {
			batch.Links = append(batch.Links, by["batch"].Links...)
		}
		s.remove(by["batch"])
		add(store, s.spans...)
		if i%100 == 99 {
			add(store, batch)
		}
		if i%500 == 499 {
			most = max(most, heap()-before)
		}
	}
	size := store.Size()
	t.Logf("%+v, %d bytes for each span; %.1f MiB as the runtime counts them, at most", size, size.Bytes/size.Spans, float64(most)/(1<<20))
	if size.Bytes > limit || size.Bytes < limit*9/10 || most > limit*5/4 {
		t.Errorf("%d bytes and %d of heap, of %d", size.Bytes, most, limit)
	}
	for i := 0; i < 2500; i += 10 {
		s, by := happy(i)
		found, err := store.Find(t.Context(), key, s.id, 1000)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := store.Traces(t.Context(), refOf(by["post"]).TraceID)
		_, span := store.TraceOf(t.Context(), refOf(by["post"]).SpanID)
		if i < 1000 && (len(found.Spans) > 0 || len(first.Spans) > 0 || !errors.Is(span, trail.ErrNotFound)) {
			t.Errorf("order %d is kept: %d spans, %d of its first trace, %v", i, len(found.Spans), len(first.Spans), span)
		}
		if i >= 2000 && (len(first.Spans) == 0 || span != nil || len(found.Spans) != len(s.spans)) {
			t.Errorf("order %d has %d spans, want %d; %d of its first trace, %v", i, len(found.Spans), len(s.spans), len(first.Spans), span)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The store ignores a span that is as large as its bound.
func TestStoreHugeSpan(t *testing.T) {
	store := trail.NewStore(1 << 20)
	s, by := happy(1)
	by["pay"].Attributes = append(by["pay"].Attributes, attribute.String("huge", strings.Repeat("x", 1<<20)))
	add(store, s.spans...)
	if found, err := store.Find(t.Context(), key, s.id, 1000); err != nil || len(found.Spans) != len(s.spans)-1 {
		t.Errorf("%d spans of %d: %v", len(found.Spans), len(s.spans), err)
	}
}

// The store keeps a span once, though it may arrive twice, and refuses one without ids.
func TestStoreAdd(t *testing.T) {
	store := trail.NewStore(0)
	s, by := happy(1)
	add(store, s.spans...)
	add(store, s.spans...)
	if size := store.Size(); size.Spans != len(s.spans) || size.Added != len(s.spans) {
		t.Errorf("%+v, want %d spans", size, len(s.spans))
	}
	good := trail.Span{Ref: refOf(by["pay"])}
	good.SpanID = "00000000000000aa"
	for _, bad := range []trail.Ref{{}, {TraceID: good.TraceID}, {SpanID: good.SpanID}, {TraceID: strings.Repeat("0", 32), SpanID: good.SpanID},
		{TraceID: strings.Repeat("x", 32), SpanID: good.SpanID}, {TraceID: good.TraceID, SpanID: good.SpanID + "00"}} {
		if refused := store.Add(good, trail.Span{Ref: bad}); refused != 1 {
			t.Errorf("%v: %d spans are refused, want 1", bad, refused)
		}
	}
}

// Services end spans while readers search.
func TestStoreConcurrency(t *testing.T) {
	store := trail.NewStore(1 << 20)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				s, _ := happy(w*50 + i)
				add(store, s.spans...)
				found, err := store.Find(context.Background(), key, s.id, 1000)
				if err != nil {
					t.Error(err)
				}
				trail.Stitch(found, s.options())
				if _, err := store.Recent(context.Background(), 20); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if size := store.Size(); size.Bytes > 1<<20 {
		t.Errorf("%+v is kept", size)
	}
}
