package trail

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Defaults of a [Store].
const (
	DefaultMaxOrders = 12_000
	DefaultMaxBytes  = 128 << 20
)

// StoreOptions are the bounds of a [Store]. The zero value means the defaults.
type StoreOptions struct {
	MaxOrders int // values of the key
	MaxBytes  int // estimated memory; at least 1 MiB
}

// Store keeps the newest spans in memory. It is a span processor, for the tracer
// providers of any number of services in the process, and a [Source].
//
// The values of its key are UUIDv7s, such as ids of orders. If there are too many
// orders, or they take too much memory, the store drops the oldest by the time in
// their ids, with every trace that belongs to no other order. It keeps sampled spans
// only, as an exporter does, and the newest traces that belong to no order: a later
// span may name one.
type Store struct {
	key                 attribute.Key
	maxOrders, maxBytes int

	mu     sync.Mutex
	size   int // bytes
	packer packer
	traces map[oteltrace.TraceID]*tracked
	orders map[uuid.UUID]*kept
	byAge  []*kept                                // the orders, oldest first: a UUIDv7 starts with its time
	spans  map[oteltrace.SpanID]oteltrace.TraceID // the trace of each span
	strays []oteltrace.TraceID                    // traces that had no order when they started, oldest first
}

// tracked is one trace.
type tracked struct {
	spans [][]byte // packed
	size  int
	refs  int // orders that it belongs to
}

// kept is one order.
type kept struct {
	id     uuid.UUID
	traces []oteltrace.TraceID
}

// Estimated memory of the index, in bytes, beside the packed spans.
const (
	spanOverhead  = 120
	traceOverhead = 190
	orderOverhead = 190
	refOverhead   = 24 // an order's reference to a trace
)

// maxStrays is how many traces without an order are kept.
const maxStrays = 256

// NewStore returns an empty Store. Its key is the attribute that names an order.
func NewStore(key attribute.Key, o StoreOptions) *Store {
	return &Store{
		key:       key,
		maxOrders: cmp.Or(o.MaxOrders, DefaultMaxOrders),
		maxBytes:  max(cmp.Or(o.MaxBytes, DefaultMaxBytes), 1<<20),
		packer:    newPacker(key),
		traces:    map[oteltrace.TraceID]*tracked{},
		orders:    map[uuid.UUID]*kept{},
		spans:     map[oteltrace.SpanID]oteltrace.TraceID{},
	}
}

// OnStart does nothing: the store keeps a span when it ends.
func (s *Store) OnStart(context.Context, trace.ReadWriteSpan) {}

// OnEnd keeps a span.
func (s *Store) OnEnd(span trace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		s.add(span)
	}
}

// Shutdown does nothing: the spans can still be read.
func (s *Store) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing: the store keeps a span at once.
func (s *Store) ForceFlush(context.Context) error { return nil }

func (s *Store) add(span trace.ReadOnlySpan) {
	traceID := span.SpanContext().TraceID()
	s.mu.Lock()
	defer s.mu.Unlock()
	packed := s.packer.pack(span)
	if len(packed) > s.maxBytes/8 {
		return
	}
	t, known := s.traces[traceID]
	if !known {
		t = &tracked{size: traceOverhead}
		s.traces[traceID] = t
		s.size += traceOverhead
	}
	t.spans = append(t.spans, packed)
	t.size += len(packed) + spanOverhead
	s.size += len(packed) + spanOverhead
	s.spans[span.SpanContext().SpanID()] = traceID
	if own := valueOf(span.Attributes(), s.key); own != "" {
		s.refer(own, traceID, t)
	} else {
		for _, l := range span.Links() {
			s.refer(valueOf(l.Attributes, s.key), traceID, t)
		}
	}
	if !known && t.refs == 0 {
		s.stray(traceID)
	}
	for len(s.orders) > s.maxOrders || s.size > s.maxBytes && len(s.orders) > 0 {
		s.forget()
	}
}

// refer adds a trace to an order. It ignores values that are no UUIDs.
func (s *Store) refer(order string, traceID oteltrace.TraceID, t *tracked) {
	id, err := uuid.Parse(order)
	if err != nil {
		return
	}
	o := s.orders[id]
	if o == nil {
		o = &kept{id: id}
		s.orders[id] = o
		at, _ := slices.BinarySearchFunc(s.byAge, o, func(a, b *kept) int { return bytes.Compare(a.id[:], b.id[:]) })
		s.byAge = slices.Insert(s.byAge, at, o)
		s.size += orderOverhead
	}
	if !slices.Contains(o.traces, traceID) {
		o.traces = append(o.traces, traceID)
		t.refs++
		s.size += refOverhead
	}
}

// forget drops the oldest order, and its traces that belong to no other order.
func (s *Store) forget() {
	o := s.byAge[0]
	s.byAge[0] = nil // frees the order
	s.byAge = s.byAge[1:]
	delete(s.orders, o.id)
	s.size -= orderOverhead + refOverhead*len(o.traces)
	for _, id := range o.traces {
		if t := s.traces[id]; t != nil {
			if t.refs--; t.refs == 0 {
				s.drop(id, t)
			}
		}
	}
}

// stray adds a trace without an order, and drops the oldest such trace if there are
// too many.
func (s *Store) stray(id oteltrace.TraceID) {
	s.strays = append(s.strays, id)
	if len(s.strays) <= maxStrays {
		return
	}
	if t := s.traces[s.strays[0]]; t != nil && t.refs == 0 {
		s.drop(s.strays[0], t)
	}
	s.strays = s.strays[1:]
}

func (s *Store) drop(id oteltrace.TraceID, t *tracked) {
	for _, packed := range t.spans {
		delete(s.spans, packedID(packed))
	}
	s.size -= t.size
	delete(s.traces, id)
}

// Size returns the number of orders and their estimated memory in bytes.
func (s *Store) Size() (orders, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.orders), s.size
}

// Find implements [Source].
func (s *Store) Find(_ context.Context, id string) (Spans, error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return Spans{}, ErrNotFound
	}
	return s.collect(func() []oteltrace.TraceID {
		if o := s.orders[key]; o != nil {
			return o.traces
		}
		return nil
	})
}

// Trace implements [Source].
func (s *Store) Trace(_ context.Context, id string) (Spans, error) {
	key, err := oteltrace.TraceIDFromHex(id)
	if err != nil {
		return Spans{}, ErrNotFound
	}
	return s.collect(func() []oteltrace.TraceID { return []oteltrace.TraceID{key} })
}

// TraceOf implements [Source].
func (s *Store) TraceOf(_ context.Context, spanID string) (string, error) {
	key, err := oteltrace.SpanIDFromHex(spanID)
	if err != nil {
		return "", ErrNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.spans[key]
	if !ok {
		return "", ErrNotFound
	}
	return id.String(), nil
}

// Recent implements [Source].
func (s *Store) Recent(_ context.Context, traces int) (Spans, error) {
	found, err := s.collect(func() (ids []oteltrace.TraceID) {
		seen := map[oteltrace.TraceID]bool{}
		for _, o := range slices.Backward(s.byAge) {
			for _, id := range o.traces {
				if len(ids) == traces {
					return ids
				}
				if !seen[id] {
					seen[id] = true
					ids = append(ids, id)
				}
			}
		}
		return ids
	})
	if err == ErrNotFound {
		err = nil
	}
	return found, err
}

// collect returns the spans of the traces that choose returns. It holds the lock while
// it calls choose, and unpacks without it.
func (s *Store) collect(choose func() []oteltrace.TraceID) (Spans, error) {
	type part struct {
		id    oteltrace.TraceID
		spans [][]byte // never modified
	}
	var parts []part
	s.mu.Lock()
	for _, id := range choose() {
		if t := s.traces[id]; t != nil {
			parts = append(parts, part{id, slices.Clone(t.spans)})
		}
	}
	words := s.packer.words()
	s.mu.Unlock()
	var found Spans
	for _, p := range parts {
		for _, packed := range p.spans {
			found.Spans = append(found.Spans, unpack(packed, p.id, words))
		}
	}
	if len(found.Spans) == 0 {
		return found, ErrNotFound
	}
	return found, nil
}
