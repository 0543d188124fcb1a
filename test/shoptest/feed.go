package shoptest

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"example.org/ordertrail/test/systemtest"
)

// Feed is a client of a feed of server-sent events.
type Feed struct {
	Answer *http.Response
	Leave  context.CancelFunc
	lines  *bufio.Scanner
}

// Follow opens a feed. last is the id of the last event that the client has, or empty.
func Follow(tb testing.TB, url, last string) *Feed {
	tb.Helper()
	return FollowAs(tb, "", url, last)
}

// FollowAs opens a feed for the client with an IP address, see [ClientHeader].
func FollowAs(tb testing.TB, client, url, last string) *Feed {
	tb.Helper()
	ctx, leave := context.WithTimeout(context.Background(), systemtest.Patience)
	tb.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	if client != "" {
		r.Header.Set(ClientHeader, client)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = a.Body.Close() })
	if got := a.Header.Get("Content-Type"); a.StatusCode == http.StatusOK && got != "text/event-stream" {
		tb.Errorf("Content-Type = %q", got)
	}
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(nil, 1<<20) // a hundred orders are one line
	return &Feed{a, leave, lines}
}

// Next waits for the next message and decodes it. It returns false when the feed has
// ended.
func (f *Feed) Next(tb testing.TB, data any) (id uint64, ok bool) {
	tb.Helper()
	for f.lines.Scan() {
		if text, found := strings.CutPrefix(f.lines.Text(), "id: "); found {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			id = n
		}
		if text, found := strings.CutPrefix(f.lines.Text(), "data: "); found {
			if err := json.Unmarshal([]byte(text), data); err != nil {
				tb.Fatalf("%v: %s", err, text)
			}
			return id, true
		}
	}
	return 0, false
}
