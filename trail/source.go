package trail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Errors of a [Source].
var (
	// ErrNotFound is returned if there is no such span.
	// The text of an error that wraps it may say why the source is not complete.
	ErrNotFound = errors.New("no such span")
	// ErrUnavailable is wrapped by the error of a source that did not answer as it
	// should, or not in time.
	ErrUnavailable = errors.New("the trace source is unavailable")
	// ErrUnsupported is returned if the source cannot search for this.
	ErrUnsupported = errors.New("the trace source does not support this search")
)

// Source returns whole traces. Traces, spans and values that it does not know are no
// errors. A Source is safe for concurrent use.
type Source interface {
	// Traces returns all spans of the traces with these ids, of 32 hex digits.
	Traces(ctx context.Context, ids ...string) (Spans, error)
	// Linking returns all spans of the traces in which a span links to a span of one of
	// these traces.
	Linking(ctx context.Context, ids ...string) (Spans, error)
	// TraceOf returns the id of the trace that contains a span, by the span's id of 16
	// hex digits. It returns ErrNotFound, or ErrUnsupported if the source cannot search
	// by span id alone.
	TraceOf(ctx context.Context, spanID string) (traceID string, err error)
	// Find returns all spans of every trace in which a span or a link has the attribute,
	// or a service the service.name, of the newest traces first, up to a number of traces.
	Find(ctx context.Context, key, value string, traces int) (Spans, error)
	// Recent returns the spans of the newest traces, up to a number of traces.
	Recent(ctx context.Context, traces int) (Spans, error)
}

// Spans are the result of a search.
type Spans struct {
	Spans     []Span
	Truncated bool   // the source has more, which it left out
	Partial   string // why spans may be missing without notice, a sentence; else ""
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

// notFound returns ErrNotFound, with the reason why spans are missing, if there is one.
func notFound(partial string) error {
	if partial == "" {
		return ErrNotFound
	}
	return fmt.Errorf("%w: %s", ErrNotFound, partial)
}
