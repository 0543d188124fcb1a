package respond

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"example.org/ordertrail/internal/service"
)

const (
	keepAlive   = 15 * time.Second // a client that has gone is noticed after this time at most
	reconnect   = time.Second      // clients are asked to wait this long before they reconnect
	readTimeout = 3 * time.Second  // for one call of Next
	writePause  = 10 * time.Second // default of Feed.Slowest
)

// Feed is a stream of server-sent events.
type Feed struct {
	// News receives a value when Next has something new. One value stands for any
	// number of news, so that nothing piles up for a slow reader.
	News <-chan struct{}
	// Next returns the messages after the one with id since; 0 stands for the
	// beginning. The error of the first call is the response. A later error ends the
	// feed: the client reconnects, and names the last id that it has.
	Next func(ctx context.Context, since uint64) ([]Message, error)
	// Pause is the shortest time between two calls of Next.
	Pause time.Duration
	// Slowest bounds the time that a client may take to read what is sent. Default 10 s.
	Slowest time.Duration
}

// Message is one event of a feed.
type Message struct {
	ID   uint64
	Data any // encoded as JSON
}

// Serve answers with the feed until the client leaves or the server stops.
func (f Feed) Serve(w http.ResponseWriter, r *http.Request) error {
	since := uint64(0)
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		var err error
		if since, err = strconv.ParseUint(last, 10, 64); err != nil {
			return Errorf(http.StatusBadRequest, "the Last-Event-ID is %.50q: it must be the id of an event of this feed, a number", last)
		}
	}
	next := func() ([]Message, error) {
		ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
		defer cancel()
		return f.Next(ctx, since)
	}
	news, err := next()
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
	slowest := f.Slowest
	if slowest == 0 {
		slowest = writePause
	}
	send := func(text string) error {
		_ = connection.SetWriteDeadline(time.Now().Add(slowest))
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return connection.Flush()
	}
	text := fmt.Sprintf("retry: %d\n\n", reconnect.Milliseconds())
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		for _, m := range news {
			data, err := json.Marshal(m.Data)
			if err != nil {
				return nil
			}
			text += fmt.Sprintf("id: %d\ndata: %s\n\n", m.ID, data)
			since = m.ID
		}
		if send(text) != nil {
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
		case <-f.News:
		case <-tick.C: // Next may find what a replica that lagged did not have
			text = ": still here\n\n"
		case <-service.Ending(r):
			return nil
		case <-r.Context().Done():
			return nil
		}
		if news, err = next(); err != nil {
			return nil
		}
	}
}
