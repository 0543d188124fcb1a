package trail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
)

// Bounds of requests to Jaeger. Callers limit the time with their context.
const (
	jaegerDepth   = 200      // traces of one search; an order has about ten traces
	jaegerAnswer  = 64 << 20 // bytes
	jaegerAtOnce  = 16       // requests at a time: a slow Jaeger holds no more
	jaegerSkew    = 5 * time.Minute
	jaegerHorizon = time.Hour // age of the oldest recent trace
)

// Jaeger is a [Source] that reads from version 3 of the query API, which Jaeger has
// since 2.20. It cannot search by span id alone.
type Jaeger struct {
	base   *url.URL
	key    string
	client *http.Client
	slots  chan struct{}
}

// NewJaeger returns a Source that reads from the API at base, such as
// http://localhost:16686, and searches by key. It does not connect yet.
func NewJaeger(base *url.URL, key attribute.Key) *Jaeger {
	return &Jaeger{
		base: base, key: string(key),
		client: &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: jaegerAtOnce, IdleConnTimeout: time.Minute},
			// The API never redirects, but a login page does.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots: make(chan struct{}, jaegerAtOnce),
	}
}

// Find implements [Source].
func (j *Jaeger) Find(ctx context.Context, id string) (Spans, error) {
	attributes, err := json.Marshal(map[string]string{j.key: id})
	if err != nil {
		return Spans{}, err
	}
	from := time.Now().Add(-jaegerHorizon)
	if u, err := uuid.Parse(id); err == nil && u.Version() == 7 {
		from = time.Unix(u.Time().UnixTime())
	}
	return j.search(ctx, from.Add(-jaegerSkew), jaegerDepth, url.Values{"query.attributes": {string(attributes)}})
}

// Trace implements [Source].
func (j *Jaeger) Trace(ctx context.Context, id string) (Spans, error) {
	return j.get(ctx, "/"+url.PathEscape(id), url.Values{"rawTraces": {"true"}, "raw_traces": {"true"}})
}

// TraceOf implements [Source]: it returns [ErrUnsupported].
func (j *Jaeger) TraceOf(context.Context, string) (string, error) { return "", ErrUnsupported }

// Recent implements [Source].
func (j *Jaeger) Recent(ctx context.Context, traces int) (Spans, error) {
	found, err := j.search(ctx, time.Now().Add(-jaegerHorizon), traces, url.Values{})
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return found, err
}

func (j *Jaeger) search(ctx context.Context, from time.Time, depth int, query url.Values) (Spans, error) {
	to := time.Now().Add(jaegerSkew)
	if !from.Before(to) {
		from = to.Add(-jaegerHorizon) // the id comes from a clock that is ahead
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
	found, err := j.get(ctx, "", query)
	traces := map[string]bool{}
	for _, s := range found.Spans {
		traces[s.TraceID] = true
	}
	found.Truncated = len(traces) >= depth
	return found, err
}

// get sends a request and reads the spans of the answer.
func (j *Jaeger) get(ctx context.Context, path string, query url.Values) (found Spans, err error) {
	select {
	case j.slots <- struct{}{}:
		defer func() { <-j.slots }()
	case <-ctx.Done():
		return found, fmt.Errorf("%w: too many requests wait for an answer: %w", ErrUnavailable, ctx.Err())
	}
	at := j.base.JoinPath("/api/v3/traces" + path)
	at.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return found, err
	}
	answer, err := j.client.Do(r)
	if err != nil {
		return found, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = answer.Body.Close() }()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		// Without a JSON error, this is not the API.
		var refusal struct {
			Error *struct{} `json:"error"`
		}
		if json.NewDecoder(io.LimitReader(answer.Body, 1<<16)).Decode(&refusal) != nil || refusal.Error == nil {
			return found, fmt.Errorf("%w: no query API at %s", ErrUnavailable, j.base.Redacted())
		}
		return found, ErrNotFound
	default:
		return found, fmt.Errorf("%w: %s", ErrUnavailable, answer.Status)
	}
	body := &io.LimitedReader{R: answer.Body, N: jaegerAnswer}
	wrapper := struct{ Result json.RawMessage }{json.RawMessage("{}")}
	if err := json.NewDecoder(body).Decode(&wrapper); err != nil {
		if body.N <= 0 {
			return found, fmt.Errorf("%w: the answer is larger than %d MiB", ErrUnavailable, jaegerAnswer>>20)
		}
		return found, fmt.Errorf("%w: the answer is not JSON: %w", ErrUnavailable, err)
	}
	traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(wrapper.Result)
	if err != nil {
		return found, fmt.Errorf("%w: the answer is not OTLP JSON: %w", ErrUnavailable, err)
	}
	found.Spans = readOTLP(traces)
	if len(found.Spans) == 0 {
		return found, ErrNotFound
	}
	return found, nil
}
