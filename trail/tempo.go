package trail

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds of requests to Tempo.
const (
	tempoResults = 500 // traces of one search
	tempoIDs     = 20  // ids in one search
)

// Tempo is a [Source] that reads from Grafana Tempo with TraceQL. It finds links and spans
// by their ids, which Tempo can since 2.7.
type Tempo struct {
	remote
	Since time.Duration // age of the oldest traces that searches find; default an hour
}

// NewTempo returns a Source that reads from the API at base, such as
// http://localhost:3200. It does not connect yet.
func NewTempo(base *url.URL) *Tempo { return &Tempo{remote: newRemote(base)} }

// Traces implements [Source].
func (t *Tempo) Traces(ctx context.Context, ids ...string) (Spans, error) {
	found, err := each(ctx, ids, t.trace)
	if err == nil && len(found.Spans) == 0 && len(ids) > 0 {
		// Other servers answer 404 too: only Tempo has a search.
		_, err = t.search(ctx, "{ }", 1)
	}
	return found, err
}

// Linking implements [Source].
func (t *Tempo) Linking(ctx context.Context, ids ...string) (Spans, error) {
	var queries []string
	for len(ids) > 0 {
		n := min(len(ids), tempoIDs)
		queries = append(queries, `{ link:traceID = "`+strings.Join(ids[:n], `" || link:traceID = "`)+`" }`)
		ids = ids[n:]
	}
	return each(ctx, queries, func(ctx context.Context, query string) (Spans, error) { return t.find(ctx, query, tempoResults) })
}

// TraceOf implements [Source].
func (t *Tempo) TraceOf(ctx context.Context, spanID string) (string, error) {
	ids, err := t.search(ctx, fmt.Sprintf("{ span:id = %q }", spanID), 1)
	if err != nil || len(ids) == 0 {
		return "", cmp.Or(err, ErrNotFound)
	}
	return ids[0], nil
}

// Find implements [Source].
func (t *Tempo) Find(ctx context.Context, key, value string, traces int) (Spans, error) {
	values := []string{strconv.Quote(value)}
	if isNumber(value) || value == "true" || value == "false" {
		values = append(values, value)
	}
	var either []string
	for _, scope := range []string{"span", "link", "resource"} {
		for _, v := range values {
			either = append(either, fmt.Sprintf("%s.%q = %s", scope, key, v))
		}
	}
	return t.find(ctx, "{ "+strings.Join(either, " || ")+" }", traces)
}

// isNumber reports whether TraceQL reads a value as the number that it is: 007 would be
// octal, and a long one too large.
func isNumber(value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	if err == nil {
		return strconv.FormatInt(n, 10) == value
	}
	f, err := strconv.ParseFloat(value, 64)
	return err == nil && strconv.FormatFloat(f, 'f', -1, 64) == value && strings.Contains(value, ".")
}

// Recent implements [Source].
func (t *Tempo) Recent(ctx context.Context, traces int) (Spans, error) {
	return t.find(ctx, "{ }", traces)
}

// find returns the traces that a query finds.
func (t *Tempo) find(ctx context.Context, query string, traces int) (Spans, error) {
	ids, err := t.search(ctx, query, traces)
	if err != nil {
		return Spans{}, err
	}
	found, err := t.Traces(ctx, ids...)
	found.Truncated = found.Truncated || len(ids) >= traces
	return found, err
}

// search returns the ids of the traces that a query finds.
func (t *Tempo) search(ctx context.Context, query string, traces int) (ids []string, err error) {
	status, body, err := t.get(ctx, "/api/search", "application/json", url.Values{
		"q": {query}, "limit": {strconv.Itoa(traces)}, "spss": {"1"},
		"start": {strconv.FormatInt(since(t.Since).Add(-remoteSkew).Unix(), 10)},
		"end":   {strconv.FormatInt(time.Now().Add(remoteSkew).Unix(), 10)},
	})
	if err != nil {
		return nil, err
	}
	var answer struct{ Traces []struct{ TraceID string } }
	if status == http.StatusNotFound || json.Unmarshal(body, &answer) != nil {
		return nil, fmt.Errorf("%w: no search API at %s", ErrUnavailable, t.base.Redacted())
	}
	for _, found := range answer.Traces {
		ids = append(ids, fmt.Sprintf("%032s", found.TraceID)) // Tempo leaves out zeros at the start
	}
	return ids, nil
}

// trace returns a trace. It asks for protobuf: in Tempo's JSON, ids are base64.
func (t *Tempo) trace(ctx context.Context, id string) (found Spans, err error) {
	status, body, err := t.get(ctx, "/api/v2/traces/"+url.PathEscape(id), "application/protobuf", nil)
	if err != nil || status == http.StatusNotFound {
		return found, err
	}
	// TraceByIDResponse: 1 is the trace, which is TracesData; 3 is the status.
	for len(body) > 0 {
		field, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return found, fmt.Errorf("%w: the answer is not protobuf", ErrUnavailable)
		}
		body = body[n:]
		if n = protowire.ConsumeFieldValue(field, kind, body); n < 0 {
			return found, fmt.Errorf("%w: the answer is not protobuf", ErrUnavailable)
		}
		switch {
		case field == 1 && kind == protowire.BytesType:
			trace, _ := protowire.ConsumeBytes(body)
			traces, err := new(ptrace.ProtoUnmarshaler).UnmarshalTraces(trace)
			if err != nil {
				return found, fmt.Errorf("%w: the answer is not OTLP: %w", ErrUnavailable, err)
			}
			for span := range FromOTLP(traces) {
				found.Spans = append(found.Spans, span)
			}
		case field == 3 && kind == protowire.VarintType:
			if partial, _ := protowire.ConsumeVarint(body); partial != 0 {
				found.Partial = "Tempo returned only a part of trace " + id + "."
			}
		}
		body = body[n:]
	}
	return found, nil
}
