// Package feed serves feeds of server-sent events.
package feed

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
)

const (
	keepAlive   = 15 * time.Second // a client that has gone is noticed after this time at most
	reconnect   = time.Second      // clients are asked to wait this long before they reconnect
	nextTimeout = 3 * time.Second  // for one call of Next
)

// Feed is a feed of server-sent events about one key of a Hub, or about all.
type Feed struct {
	Hub *Hub
	Key string
	// Next returns the messages after the one with id since; 0 stands for the
	// beginning. They cover the event with sequence upTo. The first call's error is the
	// response. A later error ends the feed: the client reconnects, and names the last id
	// that it has.
	Next func(ctx context.Context, since, upTo uint64) ([]Message, error)
	// Pause is the shortest time between two calls of Next.
	Pause time.Duration
	// Slowest bounds the time that a client may take to read a message. Default 10 s.
	Slowest time.Duration
}

// Message is one event of a feed.
type Message struct {
	ID   uint64
	Data any // encoded as JSON
}

// Serve answers with the feed until the client leaves or the server stops. It returns
// an error before it has written anything.
func (f Feed) Serve(w http.ResponseWriter, r *http.Request) error {
	since := uint64(0)
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		var err error
		if since, err = strconv.ParseUint(last, 10, 64); err != nil {
			return respond.Errorf(http.StatusBadRequest, "the Last-Event-ID is %.50q: it must be the id of an event of this feed, a number", last)
		}
	}
	watcher, err := f.Hub.Watch(f.Key, service.ClientOf(r))
	if err != nil {
		return err
	}
	defer watcher.Close()
	next := func() ([]Message, error) {
		ctx, cancel := context.WithTimeout(r.Context(), nextTimeout)
		defer cancel()
		return f.Next(ctx, since, watcher.UpTo())
	}
	messages, err := next()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold events back
	if r.Method == http.MethodHead {
		return nil
	}
	connection := http.NewResponseController(w)
	// A feed outlasts the server's read timeout. An error means that there is none.
	_ = connection.SetReadDeadline(time.Time{})
	text := fmt.Sprintf("retry: %d\n\n", reconnect.Milliseconds())
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		for _, m := range messages {
			data, err := json.Marshal(m.Data)
			if err != nil {
				return nil
			}
			text += fmt.Sprintf("id: %d\ndata: %s\n\n", m.ID, data)
			since = m.ID
		}
		_ = connection.SetWriteDeadline(time.Now().Add(cmp.Or(f.Slowest, 10*time.Second)))
		if _, err := fmt.Fprint(w, text); err != nil || connection.Flush() != nil {
			return nil // the client has gone, or reads too slowly
		}
		text = ""
		if f.Pause > 0 {
			select {
			case <-time.After(f.Pause):
			case <-service.Ending(r):
				return nil
			case <-r.Context().Done():
				return nil
			}
		}
		select {
		case <-watcher.News:
		case <-watcher.Ended:
			return nil // the client reconnects
		case <-tick.C: // Next may find what a replica that lagged did not have
			text = ": still here\n\n"
		case <-service.Ending(r):
			return nil
		case <-r.Context().Done():
			return nil
		}
		if messages, err = next(); err != nil {
			return nil
		}
	}
}
