package service

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Serve serves h until ctx ends, then lets the requests under way finish. Answers
// that go on until their reader leaves must end when [Ending] tells them.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), endingKey{}, ctx.Done())
		},
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(closing)
	<-done
	return err
}

type endingKey struct{}

// Ending is closed when the server that serves a request is told to end, of which
// the request's own context says nothing: others are to finish. It is nil for a
// request that does not come from [Serve].
func Ending(r *http.Request) <-chan struct{} {
	ending, _ := r.Context().Value(endingKey{}).(<-chan struct{})
	return ending
}
