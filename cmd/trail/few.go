package main

import (
	"bytes"
	"net/http"

	"golang.org/x/sync/semaphore"
)

const (
	// maxReads bounds the requests that read spans at a time. Each may have tens of
	// thousands of them in memory.
	maxReads = 2
	// maxUnsent bounds the answers that slow clients have not read yet, in bytes.
	maxUnsent = 64 << 20
)

// fewAtATime returns a function that limits handlers: together they serve maxReads requests
// at a time, and let the others wait. Answers are sent afterwards, because a client may
// read slowly. If there are too many of those, a request is refused with status 503.
func fewAtATime() func(http.HandlerFunc) http.HandlerFunc {
	running := make(chan struct{}, maxReads)
	unsent := semaphore.NewWeighted(maxUnsent)
	return func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case running <- struct{}{}:
			case <-r.Context().Done(): // the client has gone, or the server ends
				http.Error(w, "the server is stopping", http.StatusServiceUnavailable)
				return
			}
			answer := kept{ResponseWriter: w, code: http.StatusOK}
			func() {
				defer func() { <-running }()
				h(&answer, r)
			}()
			size := min(int64(answer.body.Cap()), maxUnsent)
			if !unsent.TryAcquire(size) {
				w.Header().Set("Retry-After", "10")
				http.Error(w, "too many answers wait for their clients: try again", http.StatusServiceUnavailable)
				return
			}
			defer unsent.Release(size)
			w.WriteHeader(answer.code)
			_, _ = w.Write(answer.body.Bytes()) // an error means that the client has gone
		}
	}
}

// kept is an answer that has not been sent.
type kept struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (k *kept) WriteHeader(code int) { k.code = code }

func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }
