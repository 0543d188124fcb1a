package trail_test

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"slices"
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

// The store drops the oldest orders first, by the time in their ids, with all traces
// that belong to them alone. The order in which spans arrive does not matter.
func TestStoreDropsTheOldest(t *testing.T) {
	store := trail.NewStore(key, trail.StoreOptions{MaxOrders: 10})
	var stories []*story
	for i := range 30 {
		s, _ := happy(i)
		stories = append(stories, s)
	}
	for _, i := range stories[0].ids.Perm(30) {
		add(store, stories[i].spans[1:]...)
	}
	for _, s := range stories {
		add(store, s.spans[0]) // late
	}
	if orders, _ := store.Size(); orders != 10 {
		t.Errorf("%d orders are kept", orders)
	}
	for i, s := range stories {
		found, err := store.Find(t.Context(), s.id)
		if i < 20 {
			if !errors.Is(err, trail.ErrNotFound) {
				t.Errorf("order %d is kept: %v", i, err)
			}
			for _, stub := range s.spans {
				if _, err := store.TraceOf(t.Context(), refOf(stub).SpanID); !errors.Is(err, trail.ErrNotFound) {
					t.Errorf("order %d: span %s is kept: %v", i, stub.Name, err)
				}
			}
		} else if err != nil || len(found.Spans) != len(s.spans) {
			t.Errorf("order %d has %d spans, want %d: %v", i, len(found.Spans), len(s.spans), err)
		}
	}
}

// The store drops a batch with the last of its orders.
func TestStoreDropsBatches(t *testing.T) {
	one, byOne := happy(1)
	two, byTwo := happy(2)
	batch := byOne["batch"]
	batch.Links = append(batch.Links, byTwo["batch"].Links...)
	store := trail.NewStore(key, trail.StoreOptions{MaxOrders: 2})
	kept := func() bool {
		_, err := store.TraceOf(t.Context(), refOf(batch).SpanID)
		return err == nil
	}
	add(store, slices.Concat(one.spans, two.spans)...)
	three, _ := happy(3)
	add(store, three.spans...)
	if _, err := store.Find(t.Context(), one.id); !errors.Is(err, trail.ErrNotFound) || !kept() {
		t.Errorf("the first order: %v; its batch is kept: %t", err, kept())
	}
	four, _ := happy(4)
	add(store, four.spans...)
	if kept() {
		t.Error("the batch is kept without its orders")
	}
}

// The store keeps the newest spans without an order: a later span of the trace may name
// one.
func TestStoreStrays(t *testing.T) {
	store := trail.NewStore(key, trail.StoreOptions{})
	s, by := happy(1)
	early := s.child(by["pay"], "dial", oteltrace.SpanKindClient, 6, 7)
	early.Attributes = nil
	s.remove(early)
	add(store, early)
	if _, err := store.Trace(t.Context(), refOf(early).TraceID); err != nil {
		t.Errorf("a span without an order: %v", err)
	}
	add(store, s.spans...)
	_, before := store.Size()
	others := newStory(2)
	for range 1000 {
		stub := others.span("inventory", "take over stock", oteltrace.SpanKindInternal, 0, 1)
		stub.Attributes = nil
		add(store, stub)
	}
	first, last := others.spans[0], others.spans[999]
	if _, err := store.Trace(t.Context(), refOf(first).TraceID); !errors.Is(err, trail.ErrNotFound) {
		t.Errorf("the first of 1000 spans without an order: %v", err)
	}
	if found, err := store.Trace(t.Context(), refOf(last).TraceID); err != nil || len(found.Values(key)) != 0 {
		t.Errorf("the last of 1000 spans without an order: %v", err)
	}
	if _, after := store.Size(); after-before > 200_000 {
		t.Errorf("1000 spans without an order take %d bytes", after-before)
	}
	if found, err := store.Find(t.Context(), s.id); err != nil || len(found.Spans) != len(s.spans)+1 {
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
	store := trail.NewStore(key, trail.StoreOptions{})
	for _, id := range []string{"", "x", "01a20482-ab51-759f-8537-365521a88cb5", strings.Repeat("0", 32), strings.Repeat("f", 32)} {
		_, order := store.Find(t.Context(), id)
		_, trace := store.Trace(t.Context(), id)
		_, span := store.TraceOf(t.Context(), id)
		for kind, err := range map[string]error{"order": order, "trace": trace, "span": span} {
			if !errors.Is(err, trail.ErrNotFound) {
				t.Errorf("%s %q: %v", kind, id, err)
			}
		}
	}
	if found, err := store.Recent(t.Context(), 10); err != nil || len(found.Spans) != 0 {
		t.Errorf("recent: %v, %v", found, err)
	}
}

// Recent returns the newest traces, up to the given number.
func TestStoreRecent(t *testing.T) {
	one, _ := happy(1)
	two, _ := happy(2)
	found, err := stored(two, one).Recent(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	traces := tracesOf(found)
	if ids := found.Values(key); len(traces) != 5 || len(ids) != 1 || ids[0] != two.id {
		t.Errorf("%d traces of %v", len(traces), ids)
	}
}

// The store stays within its bound in bytes, as the runtime counts them.
func TestStoreMemory(t *testing.T) {
	const limit = 8 << 20
	store := trail.NewStore(key, trail.StoreOptions{MaxOrders: 1_000_000, MaxBytes: limit})
	before := heap()
	most := uint64(0)
	for i := range 2500 {
		s, _ := happy(i)
		add(store, s.spans...)
		if i%500 == 499 {
			most = max(most, heap()-before)
		}
	}
	orders, size := store.Size()
	t.Logf("%d orders, %.1f kB each; %.1f MiB by its own count, %.1f MiB by the runtime's at most", orders, float64(size)/float64(orders)/1e3, float64(size)/(1<<20), float64(most)/(1<<20))
	if size > limit || orders < 500 || orders == 2500 {
		t.Errorf("%d orders in %d bytes, of %d", orders, size, limit)
	}
	if most > limit*5/4 {
		t.Errorf("%d bytes of heap, more than a quarter above %d", most, limit)
	}
	runtime.KeepAlive(store)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The default bounds have room for 10,000 orders, many of which share a batch: a tenth of
// them takes a tenth.
func TestStoreHoldsTenThousandOrders(t *testing.T) {
	store := trail.NewStore(key, trail.StoreOptions{})
	var batch *tracetest.SpanStub
	for i := range 1000 {
		s, by := happy(i)
		if i%100 == 0 {
			batch = by["batch"]
		} else {
			batch.Links = append(batch.Links, by["batch"].Links...)
		}
		s.remove(by["batch"])
		add(store, s.spans...)
		if i%100 == 99 {
			add(store, batch)
		}
	}
	if orders, size := store.Size(); orders != 1000 || size > trail.DefaultMaxBytes/10 {
		t.Errorf("%d orders in %d bytes, of %d", orders, size, trail.DefaultMaxBytes)
	}
	first, _ := happy(0)
	if found, err := store.Find(t.Context(), first.id); err != nil || len(found.Spans) != len(first.spans) {
		t.Errorf("the first order has %d spans, want %d: %v", len(found.Spans), len(first.spans), err)
	}
}

// The store ignores a span that is as large as its bound.
func TestStoreHugeSpan(t *testing.T) {
	store := trail.NewStore(key, trail.StoreOptions{MaxBytes: 1 << 20})
	s, by := happy(1)
	by["pay"].Attributes = append(by["pay"].Attributes, attribute.String("huge", strings.Repeat("x", 1<<20)))
	add(store, s.spans...)
	if found, err := store.Find(t.Context(), s.id); err != nil || len(found.Spans) != len(s.spans)-1 {
		t.Errorf("%d spans of %d: %v", len(found.Spans), len(s.spans), err)
	}
}

// Services end spans while readers search.
func TestStoreConcurrency(t *testing.T) {
	store := trail.NewStore(key, trail.StoreOptions{MaxOrders: 50})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				s, _ := happy(w*50 + i)
				add(store, s.spans...)
				found, err := store.Find(context.Background(), s.id)
				if err != nil && !errors.Is(err, trail.ErrNotFound) {
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
	if orders, _ := store.Size(); orders != 50 {
		t.Errorf("%d orders are kept", orders)
	}
}
