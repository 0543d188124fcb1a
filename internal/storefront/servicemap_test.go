package storefront_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// slowSource counts the searches for the newest traces, and answers when the test lets it.
type slowSource struct {
	trail.Source
	asked  atomic.Int64
	answer chan error
}

func (s *slowSource) Recent(context.Context, int) (trail.Spans, error) {
	n := s.asked.Add(1)
	err := <-s.answer
	return trail.Spans{Spans: []trail.Span{{Service: "orders", Ref: trail.Ref{SpanID: string(rune('0' + n))}}}}, err
}

// The traces are read once for all readers of the service map, and again when the map is
// too old. An error is not kept.
func TestServiceMapIsShared(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	now := func() time.Time { return time.Unix(1_800_000_000, later.Load()) }
	source := &slowSource{answer: make(chan error)}
	s := shoptest.Open(t, systemtest.Server(t).Connect, storefront.Wire(source, time.Minute, now))
	ask := func(answer error, status int) {
		t.Helper()
		done := make(chan struct{})
		defer close(done)
		go func() {
			for {
				select {
				case source.answer <- answer:
				case <-done:
					return
				}
			}
		}()
		for i, a := range s.MustDoAll(t, 20, func(i int) (string, string, string, http.Header) {
			return http.MethodGet, "/services", "", []http.Header{{"Accept": {"application/json"}}, browser()}[i%2]
		}) {
			a.WantStatus(t, status)
			var m trail.ServiceMap
			if i%2 == 0 && status == http.StatusOK && (json.Unmarshal(a.Content, &m) != nil || len(m.Services) != 1 || m.Services[0].Spans != 1) {
				t.Errorf("the map is %s", a.Content)
			}
		}
	}
	ask(errors.New("broken"), http.StatusBadGateway)
	failed := source.asked.Load()
	ask(nil, http.StatusOK)
	if got := source.asked.Load() - failed; got != 1 {
		t.Errorf("the source was asked %d times, want once", got)
	}
	ask(nil, http.StatusOK)
	if got := source.asked.Load() - failed; got != 1 {
		t.Errorf("the source was asked %d times by who came a little later, want not at all", got-1)
	}
	later.Store(int64(time.Second))
	ask(nil, http.StatusOK)
	if got := source.asked.Load() - failed; got != 2 {
		t.Errorf("the source was asked %d times when the map was old, want once", got-1)
	}
}
