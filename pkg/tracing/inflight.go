package tracing

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// inFlight counts work that has begun and not ended.
type inFlight struct {
	n       atomic.Int64
	waiting atomic.Bool
	idle    chan struct{} // holds one token after n has been 0
}

func (f *inFlight) begin() { f.n.Add(1) }

func (f *inFlight) done() {
	// Whoever waits says so before looking at n, so one of the two sees the other.
	if f.n.Add(-1) == 0 && f.waiting.Load() {
		f.wake()
	}
}

func (f *inFlight) wake() {
	select {
	case f.idle <- struct{}{}:
	default:
	}
}

// wait returns when nothing is in flight, or the context's error.
func (f *inFlight) wait(ctx context.Context) error {
	f.waiting.Store(true)
	for {
		n := f.n.Load()
		if n <= 0 {
			f.wake() // there may be others who wait
			return nil
		}
		select {
		case <-f.idle:
		case <-ctx.Done():
			return fmt.Errorf("%d handlers and sends are still under way: %w", n, context.Cause(ctx))
		}
	}
}

// Shutdown waits until every handler has returned and every [Send] has ended,
// then has the providers export what they hold. Call it after the last message
// was taken and before the providers are shut down, which is the business of
// whoever made them: others may share them.
//
// It returns when ctx ends, with an error that says how many handlers and sends
// were left; what has ended by then it does not export any more, the providers'
// own shutdown does. It also returns the providers' errors. A Tracer works on
// after Shutdown, and Shutdown may be called again.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if err := t.flying.wait(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	// Beside each other, or a collector that does not answer would have the one
	// use up the time of the other.
	measured := make(chan error, 1)
	go func() { measured <- flush(ctx, t.instruments().provider) }()
	err := flush(ctx, t.tracer().provider)
	return errors.Join(err, <-measured)
}

func flush(ctx context.Context, provider any) error {
	if p, ok := provider.(interface{ ForceFlush(context.Context) error }); ok {
		return p.ForceFlush(ctx)
	}
	return nil
}
