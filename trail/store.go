package trail

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/sdk/trace"
)

// DefaultMaxBytes bounds the memory of a [Store].
const DefaultMaxBytes = 128 << 20

// Store keeps the newest traces in memory. It is a [Source], and a span processor for the
// tracer providers of any number of services in the process.
//
// If the spans take too much memory, the store drops the trace whose first span arrived
// before all others, and so on. Of a span that arrives twice it keeps the first. A search
// returns at most twice [DefaultMaxSpans] spans: of the last trace, those that start first.
type Store struct {
	maxBytes int
	partial  string // of a file: why spans are missing

	mu      sync.Mutex
	size    int // bytes, estimated
	added   int // spans, ever
	dropped int // traces
	packer  packer
	traces  map[traceID]*stored
	byAge   []*stored          // the traces with spans, oldest first
	spans   map[spanID]*stored // the trace of each span
}

type (
	traceID [16]byte
	spanID  [8]byte
	linkID  struct {
		trace traceID
		span  spanID
	}
)

const noSpanID = "0000000000000000"

// stored is one trace. It has no spans if it is known only because others link to it.
type stored struct {
	id       traceID
	spans    [][]byte  // packed; only ever appended to
	links    []*stored // the traces that its spans link to
	linkedBy []*stored // the traces whose spans link to it
}

// Estimated memory beside the packed spans, in bytes.
const (
	spanOverhead  = 96
	traceOverhead = 210
	linkOverhead  = 32
)

// NewStore returns an empty Store. It estimates its memory; maxBytes is at least 1 MiB,
// and 0 means [DefaultMaxBytes].
func NewStore(maxBytes int) *Store {
	return &Store{
		maxBytes: max(cmp.Or(maxBytes, DefaultMaxBytes), 1<<20),
		packer:   newPacker(),
		traces:   map[traceID]*stored{},
		spans:    map[spanID]*stored{},
	}
}

// OnStart does nothing: the store keeps a span when it ends.
func (s *Store) OnStart(context.Context, trace.ReadWriteSpan) {}

// Shutdown does nothing: the spans can still be read.
func (s *Store) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing: the store keeps a span at once.
func (s *Store) ForceFlush(context.Context) error { return nil }

// OnEnd keeps a span if it is sampled: an exporter would get it too.
func (s *Store) OnEnd(span trace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		s.Add(fromSDK(span))
	}
}

// Add keeps spans. It returns how many of them it refused: they have no valid ids, or take
// more than an eighth of the memory.
func (s *Store) Add(spans ...Span) (refused int) {
	var links []linkID
	for i := range spans {
		span := &spans[i]
		var id, parent spanID
		var in traceID
		if !parse(in[:], span.TraceID) || !parse(id[:], span.SpanID) {
			refused++
			continue
		}
		parse(parent[:], span.ParentID)
		links = links[:0]
		for _, l := range span.Links {
			var to linkID
			parse(to.trace[:], l.TraceID)
			parse(to.span[:], l.SpanID)
			links = append(links, to)
		}
		if !s.add(span, in, id, parent, links) {
			refused++
		}
	}
	return refused
}

// parse reads an id of hex digits. It reports whether the id is valid.
func parse(id []byte, text string) bool {
	if len(text) != 2*len(id) {
		return false
	}
	if _, err := hex.Decode(id, []byte(text)); err != nil {
		clear(id)
	}
	return slices.ContainsFunc(id, func(b byte) bool { return b != 0 })
}

func (s *Store) add(span *Span, in traceID, id, parent spanID, links []linkID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, known := s.spans[id]
	if known && at.id == in {
		return true
	}
	packed := s.packer.pack(span, id, parent, links)
	if len(packed) > s.maxBytes/8 {
		return false
	}
	t := s.trace(in)
	if len(t.spans) == 0 {
		s.byAge = append(s.byAge, t)
	}
	t.spans = append(t.spans, packed)
	if !known {
		s.spans[id] = t
	}
	s.added++
	s.size += spanOverhead + len(packed)
	for _, l := range links {
		if l.trace == in || l.trace == (traceID{}) {
			continue
		}
		to := s.trace(l.trace)
		if n := len(to.linkedBy); n > 0 && to.linkedBy[n-1] == t {
			continue
		}
		to.linkedBy, t.links = append(to.linkedBy, t), append(t.links, to)
		s.size += linkOverhead
	}
	for s.size > s.maxBytes {
		s.dropOldest()
	}
	return true
}

// trace returns a trace, which it makes if it is not known.
func (s *Store) trace(id traceID) *stored {
	t := s.traces[id]
	if t == nil {
		t = &stored{id: id}
		s.traces[id] = t
		s.size += traceOverhead
	}
	return t
}

func (s *Store) dropOldest() {
	t := s.byAge[0]
	s.byAge = s.byAge[1:]
	s.dropped++
	for _, packed := range t.spans {
		if id := spanID(packed[:filterAt]); s.spans[id] == t {
			delete(s.spans, id)
		}
		s.size -= spanOverhead + len(packed)
	}
	for _, to := range t.links {
		// It is mostly the first.
		if i := slices.Index(to.linkedBy, t); i == 0 {
			to.linkedBy = to.linkedBy[1:]
		} else {
			to.linkedBy = slices.Delete(to.linkedBy, i, i+1)
		}
		s.size -= linkOverhead
		s.forget(to)
	}
	t.spans, t.links = nil, nil
	s.forget(t)
}

// forget removes a trace without spans that no trace links to.
func (s *Store) forget(t *stored) {
	if len(t.spans) == 0 && len(t.linkedBy) == 0 {
		delete(s.traces, t.id)
		s.size -= traceOverhead
	}
}

// Size is what a [Store] contains.
type Size struct {
	Spans  int `json:"spans"`
	Traces int `json:"traces"`
	Bytes  int `json:"bytes"` // estimated
	Added  int `json:"added"` // spans, including those that were dropped since
	// Dropped traces made room for others.
	Dropped int `json:"dropped_traces"`
}

// Size returns what the store contains.
func (s *Store) Size() Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Size{len(s.spans), len(s.byAge), s.size, s.added, s.dropped}
}

// Traces implements [Source].
func (s *Store) Traces(_ context.Context, ids ...string) (Spans, error) {
	return s.of(ids, func(t *stored) []*stored { return []*stored{t} }), nil
}

// Linking implements [Source].
func (s *Store) Linking(_ context.Context, ids ...string) (Spans, error) {
	return s.of(ids, func(t *stored) []*stored { return t.linkedBy }), nil
}

// of returns the traces that choose returns for the traces with these ids, each once.
func (s *Store) of(ids []string, choose func(*stored) []*stored) Spans {
	found := unpackAll(s.choose(func() (chosen []*stored) {
		seen := map[*stored]bool{}
		for _, text := range ids {
			var id traceID
			if !parse(id[:], text) || s.traces[id] == nil {
				continue
			}
			for _, t := range choose(s.traces[id]) {
				if !seen[t] {
					seen[t] = true
					chosen = append(chosen, t)
				}
			}
		}
		return chosen
	}))
	found.Partial = s.partial
	return found
}

// TraceOf implements [Source].
func (s *Store) TraceOf(_ context.Context, text string) (string, error) {
	var id spanID
	parse(id[:], text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.spans[id]; t != nil {
		return hex.EncodeToString(t.id[:]), nil
	}
	return "", notFound(s.partial)
}

// Find implements [Source].
func (s *Store) Find(ctx context.Context, key, value string, traces int) (Spans, error) {
	chosen, err := s.find(ctx, key, value, traces)
	return unpackAll(chosen), err
}

func (s *Store) find(ctx context.Context, key, value string, traces int) (chosen parts, err error) {
	all := s.choose(func() []*stored { return s.byAge })
	wanted := s.packer.hash(key, value)
	chosen.words = all.words
	for _, p := range slices.Backward(all.parts) {
		if ctx.Err() != nil {
			return parts{}, ctx.Err()
		}
		if !slices.ContainsFunc(p.spans, func(packed []byte) bool {
			if !mayHave(packed, wanted) {
				return false
			}
			span := unpack(packed, "", all.words)
			return span.has(key, value)
		}) {
			continue
		}
		if len(chosen.parts) == traces {
			chosen.more = true
			break
		}
		chosen.parts = append(chosen.parts, p)
	}
	return chosen, nil
}

// has reports whether the span, its service or one of its links has the attribute.
func (s *Span) has(key, value string) bool {
	if key == serviceNameKey && s.Service == value {
		return true
	}
	has := func(as Attributes) bool {
		_, ok := as[key]
		return ok && as.Text(key) == value
	}
	return has(s.Attributes) || slices.ContainsFunc(s.Links, func(l Link) bool { return has(l.Attributes) })
}

// Recent implements [Source].
func (s *Store) Recent(_ context.Context, traces int) (Spans, error) {
	newest := s.recent(traces).bounded()
	slices.Reverse(newest.parts)
	return unpackAll(newest), nil
}

// parts are packed traces.
type parts struct {
	parts []part
	words []string
	more  bool // the store has more, which were left out
}

type part struct {
	id    traceID
	spans [][]byte
}

// choose returns the traces that choose returns. It holds the lock while it calls choose.
func (s *Store) choose(choose func() []*stored) parts {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen := choose()
	p := parts{parts: make([]part, len(chosen)), words: s.packer.ordered}
	for i, t := range chosen {
		p.parts[i] = part{t.id, t.spans}
	}
	return p
}
