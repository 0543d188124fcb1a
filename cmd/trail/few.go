package main

import (
	"bytes"
	"net/http"
)

// maxReads bounds the requests that read spans at a time. Each may have tens of thousands
// of them in memory.
const maxReads = 2

// fewAtATime returns a function that limits handlers: together they serve maxReads requests
// at a time, and let the others wait. Answers are sent afterwards, because a client may
// read slowly.
func fewAtATime() func(http.HandlerFunc) http.HandlerFunc {
	running := make(chan struct{}, maxReads)
	return func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case running <- struct{}{}:
			case <-r.Context().Done():
				return
			}
			answer := kept{ResponseWriter: w, code: http.StatusOK}
			func() {
				defer func() { <-running }()
				h(&answer, r)
			}()
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
