package feed

import (
	"net/http"
	"sync"

	"example.org/ordertrail/internal/respond"
)

// A Hub has at most MaxWatchers watchers at a time, and MaxWatchersPerClient of one client.
const (
	MaxWatchers          = 512
	MaxWatchersPerClient = 128
)

// Hub notifies watchers of news about a key. The zero value is ready for use.
type Hub struct {
	mu       sync.Mutex
	watchers map[string]map[*Watcher]struct{}
	count    int
	ofClient map[string]int
	refusal  error // why nobody may watch now; nil if everybody may
}

// Watcher waits for news about one key, or about all.
type Watcher struct {
	// News receives a value when there is something new. One value stands for any number
	// of events, so that nothing piles up for a slow reader.
	News chan struct{}
	// Ended is closed when the sequences that the reader knows are no longer valid.
	Ended chan struct{}

	hub         *Hub
	key, client string
	upTo        uint64 // guarded by hub.mu
}

// Watch returns a watcher of a key; the empty key stands for all. Close it. A caller
// that reads after Watch returned misses nothing. The client is the one that a
// [service.ClientOf] names. If there are too many watchers, Watch returns a
// [respond.Error] with status 503, or 429 if they are the client's own. While the hub is
// suspended, Watch returns the reason.
func (h *Hub) Watch(key, client string) (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refusal != nil {
		return nil, h.refusal
	}
	if h.count == MaxWatchers {
		return nil, &respond.Error{Status: http.StatusServiceUnavailable, Retry: true,
			Detail: "too many readers follow orders: try again after the time in Retry-After"}
	}
	if h.ofClient[client] == MaxWatchersPerClient {
		return nil, &respond.Error{Status: http.StatusTooManyRequests, Retry: true,
			Detail: "this client follows orders too often: end a feed, or try again after the time in Retry-After"}
	}
	if h.watchers == nil {
		h.watchers, h.ofClient = map[string]map[*Watcher]struct{}{}, map[string]int{}
	}
	h.count++
	h.ofClient[client]++
	w := &Watcher{News: make(chan struct{}, 1), Ended: make(chan struct{}), hub: h, key: key, client: client}
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
	if h.ofClient[w.client]--; h.ofClient[w.client] == 0 {
		delete(h.ofClient, w.client)
	}
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
			case w.News <- struct{}{}:
			default:
			}
		}
	}
}

// Reset ends all watches, because the stream was replaced and its sequences repeat.
func (h *Hub) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end()
}

// Suspend ends all watches, and refuses new ones with an error until it is called with nil.
func (h *Hub) Suspend(refusal error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refusal = refusal; refusal != nil {
		h.end()
	}
}

// end ends all watches. The caller holds mu.
func (h *Hub) end() {
	for _, watchers := range h.watchers {
		for w := range watchers {
			w.upTo = 0
			select {
			case <-w.Ended: // ended before
			default:
				close(w.Ended)
			}
		}
	}
}
