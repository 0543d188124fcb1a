package service

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Serve serves h until ctx ends, then waits for the requests under way. Responses
// without an end, such as live feeds, must end when the channel of [Ending] is closed.
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

// Ending returns a channel that is closed when the server of a request begins to end.
// The request's own context lives on, so that other requests finish. The channel is nil
// for a request that does not come from [Serve].
func Ending(r *http.Request) <-chan struct{} {
	ending, _ := r.Context().Value(endingKey{}).(<-chan struct{})
	return ending
}
