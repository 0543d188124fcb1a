package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Replica is a running instance of a service.
type Replica struct {
	*Runtime
	HTTP   http.Handler // the service's API; nil if it has none
	cancel context.CancelFunc
	done   chan struct{} // closed when the service's Run has returned err
	err    error
}

// Start connects a service, wires it and runs it until Stop. See NewRuntime for how
// long it waits for NATS.
func Start(ctx context.Context, def Definition, cfg Config) (*Replica, error) {
	cfg.Name = def.Name
	rt, err := NewRuntime(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", def.Name, err)
	}
	part, err := def.Wire(rt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", def.Name, err), rt.Close(ctx))
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Replica{Runtime: rt, HTTP: part.HTTP, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = part.Run(running)
	}()
	return r, nil
}

// Stop ends the replica as SIGTERM does: the service finishes the messages that it
// handles, then its connection is closed and its spans are exported.
func (r *Replica) Stop(ctx context.Context) error {
	return errors.Join(r.finish(ctx), r.Close(ctx))
}

// finish stops the service and waits until it has handled its last messages. A
// service that ctx cuts short is left behind: NATS redelivers what it did not
// acknowledge.
func (r *Replica) finish(ctx context.Context) error {
	r.cancel()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", r.Name, ctx.Err())
	}
}
