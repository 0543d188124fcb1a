package trail

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"
)

// Bounds of requests to a tracing backend. Callers limit the time with their context.
const (
	remoteAnswer = 64 << 20 // bytes
	remoteAtOnce = 16       // requests at a time: a slow backend holds no more
	remoteSkew   = 5 * time.Minute
	remoteSince  = time.Hour
)

// remote is the HTTP API of a tracing backend.
type remote struct {
	base   *url.URL
	client *http.Client
}

func newRemote(base *url.URL) remote {
	return remote{base, &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: remoteAtOnce, MaxIdleConnsPerHost: remoteAtOnce, IdleConnTimeout: time.Minute},
		// The API never redirects, but a login page does.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get returns the status and the body of an answer. An error wraps [ErrUnavailable].
func (r remote) get(ctx context.Context, path, accept string, query url.Values) (int, []byte, error) {
	at := r.base.JoinPath(path)
	at.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", accept)
	answer, err := r.client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, remoteAnswer+1))
	switch {
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound:
		return 0, nil, fmt.Errorf("%w: %s", ErrUnavailable, answer.Status)
	case err != nil:
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case len(body) > remoteAnswer:
		return 0, nil, fmt.Errorf("%w: the answer is larger than %d MiB", ErrUnavailable, remoteAnswer>>20)
	}
	return answer.StatusCode, body, nil
}

// each calls read for each id, some at a time, and returns all spans, each once.
func each(ctx context.Context, ids []string, read func(ctx context.Context, id string) (Spans, error)) (Spans, error) {
	parts := make([]Spans, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(remoteAtOnce / 2)
	for i, id := range ids {
		group.Go(func() (err error) {
			parts[i], err = read(ctx, id)
			return err
		})
	}
	err := group.Wait()
	return merge(parts...), err
}

// merge returns all spans that have ids, each once: a trace may be in several parts, and a
// backend may store a span twice.
func merge(parts ...Spans) (all Spans) {
	seen := map[Ref]bool{}
	for _, p := range parts {
		for _, s := range p.Spans {
			if !seen[s.Ref] && s.valid() {
				seen[s.Ref] = true
				all.Spans = append(all.Spans, s)
			}
		}
		all.Truncated, all.Partial = all.Truncated || p.Truncated, cmp.Or(all.Partial, p.Partial)
	}
	return all
}

// since returns the start of the time that a search covers, back is how far.
func since(back time.Duration) time.Time {
	return time.Now().Add(-cmp.Or(back, remoteSince))
}
