package stream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"example.org/ordertrail/internal/stream"
)

// Callers that come while a request is under way share the next one: no caller gets the
// answer to a request that was sent before it asked.
func TestShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		join := stream.Shared[int]()
		sent, answers, release := 0, make(chan int, 12), make(chan struct{})
		ask := func() {
			answer, _ := join(t.Context(), func() (int, error) {
				sent++
				number := sent
				<-release
				return number, nil
			})
			answers <- answer
		}
		go ask()
		synctest.Wait() // until the first request is under way
		for range 10 {
			go ask()
		}
		synctest.Wait() // until all wait
		close(release)
		synctest.Wait()
		first := 0
		for range 11 {
			if <-answers == 1 {
				first++
			}
		}
		if first != 1 || sent != 2 {
			t.Errorf("%d requests were sent, and %d callers got the answer to the first; want 2 and 1", sent, first)
		}
		if ask(); <-answers != 3 {
			t.Error("a later caller got an old answer")
		}
	})
}

// A caller whose context ends stops waiting, for the request and for its turn to send
// one. The others get an error, and later callers an answer.
func TestSharedEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		join := stream.Shared[int]()
		release, answers := make(chan struct{}), make(chan error, 3)
		ask := func(ctx context.Context) {
			_, err := join(ctx, func() (int, error) { <-release; return 0, nil })
			answers <- err
		}
		go ask(t.Context())
		synctest.Wait() // until the request is under way
		next, cancelNext := context.WithCancel(t.Context())
		go ask(next)
		synctest.Wait() // until it waits for its turn
		joined, cancelJoined := context.WithCancel(t.Context())
		go ask(joined)
		synctest.Wait() // until it waits for the answer
		for _, cancel := range []context.CancelFunc{cancelJoined, cancelNext} {
			cancel()
			if err := <-answers; !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v, want %v", err, context.Canceled)
			}
		}
		close(release)
		if err := <-answers; err != nil {
			t.Error(err)
		}
		if ask(t.Context()); <-answers != nil {
			t.Error("a later caller got no answer")
		}
	})
}
