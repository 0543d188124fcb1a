package trail

import (
	"context"
	"errors"
	"slices"
)

// ErrNotFound is returned by a [Source] that has no span of what was asked for.
var ErrNotFound = errors.New("no span of it is known")

// ErrUnavailable is wrapped by a [Source]'s error when it did not answer, or not in
// time.
var ErrUnavailable = errors.New("the source of traces does not answer")

// ErrUnsupported is returned by a [Source] that has no way to find what was asked
// for.
var ErrUnsupported = errors.New("the source of traces cannot look for this")

// Source is where spans come from. It is safe for concurrent use.
type Source interface {
	// Order returns all spans of every trace in which a span has the order's id as
	// attribute order.id, or on a link. Spans of other orders, in a batch's trace, may
	// be among them: Stitch leaves them out. It returns ErrNotFound if there are none.
	Order(ctx context.Context, id string) (Spans, error)
	// Trace returns all spans of a trace, by its id of 32 hex digits, or ErrNotFound.
	Trace(ctx context.Context, id string) (Spans, error)
	// TraceOf returns the id of the trace that has a span, by that one's id of 16 hex
	// digits. It returns ErrNotFound, or ErrUnsupported if it finds no span by its id
	// alone.
	TraceOf(ctx context.Context, spanID string) (traceID string, err error)
	// Recent returns the spans of the newest traces, up to a number of traces. It
	// returns none, and no error, if there are none.
	Recent(ctx context.Context, traces int) (Spans, error)
}

// Spans is what a [Source] has found.
type Spans struct {
	Spans []Span
	// Truncated tells that there are more, which the source has left out.
	Truncated bool
}

// OrdersOf returns the ids of the orders that one of the spans belongs to, by itself
// or, if it names none, by its trace. It returns nil if the span is not there.
func (s Spans) OrdersOf(r Ref) []string {
	for i := range s.Spans {
		if s.Spans[i].Ref == r {
			if ids := s.Spans[i].orders(); len(ids) > 0 {
				return slices.Compact(slices.Sorted(slices.Values(ids)))
			}
			return s.Orders()
		}
	}
	return nil
}

// Orders returns the ids of the orders that spans belong to: those on the spans
// themselves, and those on links of batches. They are sorted, by age therefore.
func (s Spans) Orders() []string {
	seen := map[string]bool{}
	for _, span := range s.Spans {
		for _, id := range span.orders() {
			seen[id] = true
		}
	}
	return sortedKeys(seen)
}
