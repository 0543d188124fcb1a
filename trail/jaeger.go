package trail

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Bounds of requests to Jaeger.
const jaegerDepth = 200 // traces of one search; an order has about ten traces

// Jaeger is a [Source] that reads from version 3 of the query API, which Jaeger has
// since 2.20. It finds links only by their attribute link.trace_id.
//
// With Scan, it also reads the newest traces, once, for links without that attribute and
// for spans by their id alone. Without, it does not find them.
type Jaeger struct {
	remote
	Since time.Duration // age of the oldest traces that searches find; default an hour
	Scan  int           // traces to read; Jaeger's limit is 1500 by default

	mu      sync.Mutex
	scanned *Store
	partial string
}

// NewJaeger returns a Source that reads from the API at base, such as
// http://localhost:16686. It does not connect yet.
func NewJaeger(base *url.URL) *Jaeger { return &Jaeger{remote: newRemote(base)} }

// Find implements [Source].
func (j *Jaeger) Find(ctx context.Context, key, value string, traces int) (Spans, error) {
	if key == serviceNameKey {
		return j.search(ctx, since(j.Since), min(traces, jaegerDepth), url.Values{"query.serviceName": {value}, "query.service_name": {value}})
	}
	attributes, err := json.Marshal(map[string]string{key: value})
	if err != nil {
		return Spans{}, err
	}
	from := since(j.Since)
	// Parse also accepts other forms, such as the 32 digits of a trace id, which has no time.
	if u, err := uuid.Parse(value); err == nil && len(value) == 36 && u.Version() == 7 {
		from = time.Unix(u.Time().UnixTime())
	}
	return j.search(ctx, from.Add(-remoteSkew), min(traces, jaegerDepth), url.Values{"query.attributes": {string(attributes)}})
}

// Traces implements [Source].
func (j *Jaeger) Traces(ctx context.Context, ids ...string) (Spans, error) {
	return each(ctx, ids, func(ctx context.Context, id string) (Spans, error) {
		return j.read(ctx, "/"+url.PathEscape(id), url.Values{"rawTraces": {"true"}, "raw_traces": {"true"}})
	})
}

// Linking implements [Source].
func (j *Jaeger) Linking(ctx context.Context, ids ...string) (Spans, error) {
	found, err := each(ctx, ids, func(ctx context.Context, id string) (Spans, error) {
		return j.Find(ctx, linkTraceKey, id, jaegerDepth)
	})
	if err != nil || j.Scan == 0 {
		return found, err
	}
	scanned, err := j.scan(ctx)
	if err != nil {
		return found, err
	}
	others, err := scanned.Linking(ctx, ids...)
	others.Partial = j.partial
	return merge(found, others), err
}

// scan reads the newest traces, once.
func (j *Jaeger) scan(ctx context.Context) (*Store, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.scanned != nil {
		return j.scanned, nil
	}
	found, err := j.Recent(ctx, j.Scan)
	if err != nil {
		return nil, err
	}
	j.scanned = NewStore(0)
	j.scanned.Add(found.Spans...)
	if found.Truncated {
		j.partial = fmt.Sprintf("Jaeger cannot search for links without the attribute %s: they were looked for in the newest %d traces of the last %s only.", linkTraceKey, j.Scan, strings.TrimSuffix(cmp.Or(j.Since, remoteSince).String(), "0m0s"))
	}
	return j.scanned, nil
}

// TraceOf implements [Source]. Without Scan it returns [ErrUnsupported], also for spans that
// are not among those that were read.
func (j *Jaeger) TraceOf(ctx context.Context, spanID string) (string, error) {
	if j.Scan == 0 {
		return "", ErrUnsupported
	}
	scanned, err := j.scan(ctx)
	if err != nil {
		return "", err
	}
	id, err := scanned.TraceOf(ctx, spanID)
	if errors.Is(err, ErrNotFound) {
		err = ErrUnsupported // Jaeger may have it nevertheless
	}
	return id, err
}

// Recent implements [Source].
func (j *Jaeger) Recent(ctx context.Context, traces int) (Spans, error) {
	return j.search(ctx, since(j.Since), traces, url.Values{})
}

func (j *Jaeger) search(ctx context.Context, from time.Time, depth int, query url.Values) (Spans, error) {
	to := time.Now().Add(remoteSkew)
	if !from.Before(to) {
		from = to.Add(-remoteSince) // the id comes from a clock that is ahead
	}
	// Jaeger releases differ in the names of these parameters.
	for names, value := range map[[2]string]string{
		{"query.startTimeMin", "query.start_time_min"}: from.UTC().Format(time.RFC3339Nano),
		{"query.startTimeMax", "query.start_time_max"}: to.UTC().Format(time.RFC3339Nano),
		{"query.searchDepth", "query.num_traces"}:      strconv.Itoa(depth),
	} {
		query.Set(names[0], value)
		query.Set(names[1], value)
	}
	// Raw traces, because Jaeger otherwise corrects clock skew.
	query.Set("query.rawTraces", "true")
	query.Set("query.raw_traces", "true")
	found, err := j.read(ctx, "", query)
	traces := map[string]bool{}
	for _, s := range found.Spans {
		traces[s.TraceID] = true
	}
	found.Truncated = len(traces) >= depth
	return found, err
}

// read sends a request and reads the spans of the answer.
func (j *Jaeger) read(ctx context.Context, path string, query url.Values) (found Spans, err error) {
	status, body, err := j.get(ctx, "/api/v3/traces"+path, "application/json", query)
	if err != nil {
		return found, err
	}
	if status == http.StatusNotFound {
		// Without a JSON error, this is not the API.
		var refusal struct {
			Error *struct{} `json:"error"`
		}
		if json.Unmarshal(body, &refusal) != nil || refusal.Error == nil {
			return found, fmt.Errorf("%w: no query API at %s", ErrUnavailable, j.base.Redacted())
		}
		return found, nil
	}
	wrapper := struct{ Result json.RawMessage }{json.RawMessage("{}")}
	if err := json.Unmarshal(body, &wrapper); err != nil {
		return found, fmt.Errorf("%w: the answer is not JSON: %w", ErrUnavailable, err)
	}
	traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(wrapper.Result)
	if err != nil {
		return found, fmt.Errorf("%w: the answer is not OTLP JSON: %w", ErrUnavailable, err)
	}
	for span := range FromOTLP(traces) {
		found.Spans = append(found.Spans, span)
	}
	return merge(found), nil
}
