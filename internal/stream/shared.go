package stream

import (
	"context"
	"sync"
)

// shared sends one request for all callers that want the same answer at about the same
// time. Make it with newShared.
type shared[T any] struct {
	turn chan struct{} // holds a value while a request is under way

	mu   sync.Mutex
	next *request[T] // that is not sent yet; nil if there is none
}

// request is a request of several callers.
type request[T any] struct {
	done   chan struct{} // closed when answer and err are set
	answer T
	err    error
}

func newShared[T any]() *shared[T] { return &shared[T]{turn: make(chan struct{}, 1)} }

// join returns the answer to a request that is sent after the call of join. One of the
// callers sends it, with its own send. So the error may be the end of another caller's
// context.
func (s *shared[T]) join(ctx context.Context, send func() (T, error)) (answer T, err error) {
	s.mu.Lock()
	r := s.next
	if r != nil {
		s.mu.Unlock()
		select {
		case <-r.done:
			return r.answer, r.err
		case <-ctx.Done():
			return answer, ctx.Err()
		}
	}
	r = &request[T]{done: make(chan struct{})}
	s.next = r
	s.mu.Unlock()
	defer close(r.done)

	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.next = nil // for a caller that comes now, the answer might be too old
	s.mu.Unlock()
	if r.err = ctx.Err(); r.err == nil {
		r.answer, r.err = send()
	}
	return r.answer, r.err
}
