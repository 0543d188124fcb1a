package trail

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Errors of a [Source].
var (
	// ErrNotFound is returned if the source has no such span.
	ErrNotFound = errors.New("no such span")
	// ErrUnavailable is wrapped by the error of a source that did not answer as it
	// should, or not in time.
	ErrUnavailable = errors.New("the trace source is unavailable")
	// ErrUnsupported is returned if the source cannot search for this.
	ErrUnsupported = errors.New("the trace source does not support this search")
)

// Source returns spans. It has a key: an attribute such as order.id, whose values are
// on spans, or on links of batches. A Source is safe for concurrent use.
type Source interface {
	// Find returns all spans of every trace in which a span or a link has the value.
	// A batch's trace brings spans of other values with it: Stitch leaves them out.
	// Find returns ErrNotFound if there are none.
	Find(ctx context.Context, value string) (Spans, error)
	// Trace returns all spans of a trace, by its id of 32 hex digits, or ErrNotFound.
	Trace(ctx context.Context, id string) (Spans, error)
	// TraceOf returns the id of the trace that contains a span, by the span's id of 16
	// hex digits. It returns ErrNotFound, or ErrUnsupported if the source cannot search
	// by span id alone.
	TraceOf(ctx context.Context, spanID string) (traceID string, err error)
	// Recent returns the spans of the newest traces, up to a number of traces. No spans
	// are not an error.
	Recent(ctx context.Context, traces int) (Spans, error)
}

// Spans are the result of a search.
type Spans struct {
	Spans     []Span
	Truncated bool // the source has more, which it left out
}

// Values returns the different values of an attribute, sorted.
func (s Spans) Values(key string) []string {
	seen := map[string]bool{}
	for i := range s.Spans {
		for _, v := range s.Spans[i].values(key) {
			seen[v] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// ValuesOf returns the values of one span, or those of its trace if it has none. It
// returns nil if the span is not among s.
func (s Spans) ValuesOf(r Ref, key string) []string {
	for _, span := range s.Spans {
		if span.Ref == r {
			if values := (Spans{Spans: []Span{span}}).Values(key); len(values) > 0 {
				return values
			}
			return s.Values(key)
		}
	}
	return nil
}
