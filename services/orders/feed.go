package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
)

// Bounds of the feeds.
const (
	maxWatchers = 512                    // readers at a time, of all feeds
	keepAlive   = 15 * time.Second       // how soon a reader that has gone is noticed
	listPause   = 200 * time.Millisecond // between two messages about the whole shop
	reconnect   = time.Second            // what readers are asked to wait before they come back
)

// watchers are who wants to know of news about an order, or about all: key "".
type watchers struct {
	mu    sync.Mutex
	by    map[string]map[*watcher]struct{}
	count int
}

// watcher is one of them. It is told that there is news, not what: a slow one reads
// more at once, and nothing piles up for it.
type watcher struct {
	news chan struct{} // holds one
	upTo atomic.Uint64 // the sequence of the newest event
}

func newWatchers() *watchers { return &watchers{by: map[string]map[*watcher]struct{}{}} }

var errTooManyWatchers = errors.New("too many readers follow orders already")

// add makes a watcher. Its remove must be called when it is done.
func (ws *watchers) add(key string) (w *watcher, remove func(), err error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.count == maxWatchers {
		return nil, nil, errTooManyWatchers
	}
	ws.count++
	w = &watcher{news: make(chan struct{}, 1)}
	if ws.by[key] == nil {
		ws.by[key] = map[*watcher]struct{}{}
	}
	ws.by[key][w] = struct{}{}
	return w, func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		ws.count--
		if delete(ws.by[key], w); len(ws.by[key]) == 0 {
			delete(ws.by, key)
		}
	}, nil
}

// tell tells of an event.
func (ws *watchers) tell(e event.Event) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, key := range []string{"", e.Key} {
		for w := range ws.by[key] {
			w.upTo.Store(e.Sequence)
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}
}

// message is one server-sent event.
type message struct {
	id   uint64 // by which a reader that comes back says what it has
	data any
}

// events answers GET /orders/{id}/events: the order's events, those that are there
// and those that come.
func (o *orders) events(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !event.IsOrderID(id) {
		refuseID(w, id)
		return
	}
	o.feed(w, r, id, 0, func(ctx context.Context, since, upTo uint64) (news []message, err error) {
		order, err := o.get(ctx, id, max(upTo, o.recent.last(id)))
		for _, e := range order.Events {
			if e.Sequence > since {
				news = append(news, message{e.Sequence, e})
			}
		}
		return news, err
	})
}

// changes answers GET /events: which of the newest orders have changed, and the
// counts.
func (o *orders) changes(w http.ResponseWriter, r *http.Request) {
	o.feed(w, r, "", listPause, func(_ context.Context, since, _ uint64) ([]message, error) {
		changed, applied := o.recent.changed(since, recentKept)
		if applied < since { // of another stream, that was here before
			changed, applied = o.recent.changed(0, recentKept)
		}
		if applied == since && applied > 0 {
			return nil, nil
		}
		return []message{{applied, struct {
			Shop   counts  `json:"shop"`
			Orders []Order `json:"orders"`
		}{o.counted(), changed}}}, nil
	})
}

// feed answers with what next returns, at first and whenever there is news about
// key, until the reader leaves or the server ends. next returns what came after
// the message since; it knows of everything up to the event upTo at least. Between
// two answers is a pause.
func (o *orders) feed(w http.ResponseWriter, r *http.Request, key string, pause time.Duration, next func(ctx context.Context, since, upTo uint64) ([]message, error)) {
	since := uint64(0)
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		var err error
		if since, err = strconv.ParseUint(last, 10, 64); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("the Last-Event-ID is %.50q: it must be the id of an event of this feed, a number", last))
			return
		}
	}
	watch, remove, err := o.watchers.add(key) // before it reads, or it could miss something
	if err != nil {
		w.Header().Set("Retry-After", retryAfter)
		refuse(w, http.StatusServiceUnavailable, err.Error()+": try again after the time that Retry-After says")
		return
	}
	defer remove()
	read := func() ([]message, error) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		return next(ctx, since, watch.upTo.Load())
	}
	news, err := read()
	if err != nil {
		o.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for a proxy that would hold it back
	if r.Method == http.MethodHead {
		return
	}
	send := sender{w: w, c: http.NewResponseController(w), slowest: o.bounds.slowest}
	send.start()
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		for _, m := range news {
			send.message(m)
			since = m.id
		}
		if send.flush(); send.err != nil {
			return // the reader has gone, or is too slow
		}
		if pause > 0 && wait(r.Context(), pause) != nil {
			return
		}
		select {
		case <-watch.news:
		case <-tick.C: // also a look for what a replica that lagged did not show
			send.text(": still here\n\n")
		case <-service.Ending(r):
			return
		case <-r.Context().Done():
			return
		}
		if news, err = read(); err != nil {
			o.Log.DebugContext(r.Context(), "a feed ends", "error", err)
			return // the reader comes back, and says what it has
		}
	}
}

// sender writes a feed. After an error it does nothing more.
type sender struct {
	w       http.ResponseWriter
	c       *http.ResponseController
	slowest time.Duration
	err     error
}

// start begins the answer, which outlasts the server's bounds for requests.
func (s *sender) start() {
	// An error means that there is no connection behind it, and no bound either.
	_ = s.c.SetReadDeadline(time.Time{})
	s.w.WriteHeader(http.StatusOK)
	s.text(fmt.Sprintf("retry: %d\n\n", reconnect.Milliseconds()))
}

func (s *sender) message(m message) {
	data, err := json.Marshal(m.data)
	if err != nil {
		s.err = err
		return
	}
	s.text(fmt.Sprintf("id: %d\ndata: %s\n\n", m.id, data))
}

func (s *sender) text(text string) {
	if s.err != nil {
		return
	}
	_ = s.c.SetWriteDeadline(time.Now().Add(s.slowest))
	_, s.err = io.WriteString(s.w, text)
}

func (s *sender) flush() {
	if s.err == nil {
		s.err = s.c.Flush()
	}
}
