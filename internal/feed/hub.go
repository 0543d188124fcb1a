package feed

import (
	"net/http"
	"sync"

	"example.org/ordertrail/internal/respond"
)

// MaxWatchers is the number of watchers that a Hub has at a time.
const MaxWatchers = 512

// Hub notifies watchers of news about a key. The zero value is ready for use.
type Hub struct {
	mu       sync.Mutex
	watchers map[string]map[*Watcher]struct{}
	count    int
}

// Watcher waits for news about one key, or about all.
type Watcher struct {
	// News receives a value when there is something new. One value stands for any number
	// of events, so that nothing piles up for a slow reader.
	News <-chan struct{}

	hub  *Hub
	key  string
	news chan struct{}
	upTo uint64 // guarded by hub.mu
}

// Watch returns a watcher of a key; the empty key stands for all. Close it. A caller
// that reads after Watch returned misses nothing. If there are too many watchers, Watch
// returns a [respond.Error] with status 503.
func (h *Hub) Watch(key string) (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == MaxWatchers {
		return nil, &respond.Error{Status: http.StatusServiceUnavailable, Retry: true,
			Detail: "too many readers follow orders: try again after the time in Retry-After"}
	}
	h.count++
	news := make(chan struct{}, 1)
	w := &Watcher{News: news, news: news, hub: h, key: key}
	if h.watchers == nil {
		h.watchers = map[string]map[*Watcher]struct{}{}
	}
	if h.watchers[key] == nil {
		h.watchers[key] = map[*Watcher]struct{}{}
	}
	h.watchers[key][w] = struct{}{}
	return w, nil
}

// UpTo returns the sequence of the newest event since Watch, 0 if there is none.
func (w *Watcher) UpTo() uint64 {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.upTo
}

// Close ends the watch.
func (w *Watcher) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count--
	if delete(h.watchers[w.key], w); len(h.watchers[w.key]) == 0 {
		delete(h.watchers, w.key)
	}
}

// Notify notifies the watchers of a key, and those of all keys, of an event.
func (h *Hub) Notify(key string, sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range []string{"", key} {
		for w := range h.watchers[k] {
			w.upTo = sequence
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}
}
