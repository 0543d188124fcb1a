package service

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.org/ordertrail/internal/respond"
)

const (
	readyTimeout = 2 * time.Second // bounds one check of readiness
	checkEvery   = time.Second     // between two checks of FollowReady
)

// readiness is the result of the newest check.
type readiness struct {
	mu      sync.Mutex
	began   time.Time // the check; zero before the first one
	err     error
	changed func(error) // nil if nobody follows
}

// set records the result of a check, unless a check that began later has ended before.
func (r *readiness) set(began time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if began.Before(r.began) {
		return
	}
	if r.changed != nil && (r.err == nil) != (err == nil) {
		r.changed(refusal(err))
	}
	r.began, r.err = began, err
}

// Ready checks whether the service can do its work now, for /readyz. It returns nil, or
// the reason. [Runtime.NotReady] returns the same until the next check.
func (rt *Runtime) Ready(ctx context.Context) error {
	check, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	began := time.Now()
	err := rt.Stream.Ready(check)
	if err != nil {
		err = fmt.Errorf("not ready: %w", err)
	}
	if err == nil || ctx.Err() == nil { // else the caller has gone
		rt.ready.set(began, err)
	}
	return err
}

// FollowReady checks readiness every second until ctx ends. When the service is no longer
// ready, it calls changed with the error of [Runtime.NotReady], and with nil when it is
// ready again; changed may be nil. A Runtime has one follower.
func (rt *Runtime) FollowReady(ctx context.Context, changed func(error)) error {
	rt.ready.mu.Lock()
	rt.ready.changed = changed
	rt.ready.mu.Unlock()
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		_ = rt.Ready(ctx) // the state has the error
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// NotReady returns a [respond.Error] with status 503 if the service was not ready at the
// newest check, nil if it was. It checks only if nothing has checked before.
func (rt *Runtime) NotReady(ctx context.Context) error {
	rt.ready.mu.Lock()
	began, err := rt.ready.began, rt.ready.err
	rt.ready.mu.Unlock()
	if began.IsZero() {
		err = rt.Ready(ctx)
	}
	return refusal(err)
}

// refusal returns the error for a client; nil without a reason.
func refusal(reason error) error {
	if reason == nil {
		return nil
	}
	return &respond.Error{Status: http.StatusServiceUnavailable, Detail: reason.Error(), Retry: true, Cause: reason}
}

// ErrWaiting is the error of requests before the service has a connection to NATS.
var ErrWaiting = &respond.Error{Status: http.StatusServiceUnavailable, Detail: "not ready: waiting for NATS", Retry: true}
