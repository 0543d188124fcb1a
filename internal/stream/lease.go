package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// contendWait is how often a standby looks whether the lease is free.
const contendWait = 250 * time.Millisecond

// ErrLeaseLost ends a term whose holder could not keep its lease.
var ErrLeaseLost = errors.New("lease lost")

// Lead runs term while this process holds the lease of that name, one holder at
// a time among all who call Lead for it, until ctx ends. When term returns
// while ctx goes on, Lead gives the lease up and stands for it again.
//
// A lease alone keeps nobody from writing: a paused process finds out too late
// that its lease expired. What term writes needs a fencing token, which the
// server checks (a guard on a message that each new holder publishes).
//
// The context that term gets ends, with the cause ErrLeaseLost, when the lease
// could not be renewed in time.
func (c *Client) Lead(ctx context.Context, name, holder string, term func(ctx context.Context) error) error {
	for ctx.Err() == nil {
		lease, err := c.acquire(ctx, name, holder)
		if err != nil {
			break // ctx has ended
		}
		c.log.InfoContext(ctx, "lease acquired", "lease", name, "holder", holder)
		err = lease.hold(ctx, term)
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "lease given up", "lease", name, "holder", holder, "error", err)
			if pause(ctx, contendWait) != nil {
				break
			}
		}
	}
	return nil
}

// lease is one that is held.
type lease struct {
	kv       jetstream.KeyValue
	name     string
	holder   []byte
	revision uint64
	ttl      time.Duration
	valid    time.Time // until then nobody else can hold it
}

// acquire waits until the key can be created. The bucket's TTL removes the key of
// a holder that died.
func (c *Client) acquire(ctx context.Context, name, holder string) (*lease, error) {
	for warned := false; ; {
		l, err := c.tryAcquire(ctx, name, holder)
		if err == nil {
			return l, nil
		}
		if !warned && !errors.Is(err, jetstream.ErrKeyExists) {
			c.log.Warn("waiting for the lease: is NATS up, and was `ordertrail provision` run?", "lease", name, "error", err)
			warned = true
		}
		if pause(ctx, contendWait) != nil {
			return nil, fmt.Errorf("acquire lease %s: %w", name, err)
		}
	}
}

func (c *Client) tryAcquire(ctx context.Context, name, holder string) (*lease, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	kv, err := c.js.KeyValue(ctx, LeasesBucket)
	if err != nil {
		return nil, err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	revision, err := kv.Create(ctx, name, []byte(holder))
	if err != nil {
		return nil, err
	}
	return &lease{kv: kv, name: name, holder: []byte(holder), revision: revision, ttl: status.TTL(), valid: asked.Add(status.TTL())}, nil
}

// hold runs term, renewing the lease beside it, and lets go of it at the end.
func (l *lease) hold(ctx context.Context, term func(context.Context) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if err := l.renew(renewing); err != nil {
			lose(fmt.Errorf("%w: %w", ErrLeaseLost, err))
		}
	}()

	err := term(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, ErrLeaseLost) {
		err = errors.Join(cause, err)
	}
	stop()
	<-renewed
	// A standby need not wait for the TTL. If this fails, it waits.
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.kv.Delete(release, l.name, jetstream.LastRevision(l.revision))
	return err
}

// renew keeps the lease until ctx ends (nil) or it is lost (why).
func (l *lease) renew(ctx context.Context) error {
	for {
		if pause(ctx, l.ttl/3) != nil {
			return nil
		}
		asked := time.Now()
		attempt, cancel := context.WithTimeout(ctx, l.ttl/3)
		revision, err := l.kv.Update(attempt, l.name, l.holder, l.revision)
		cancel()
		switch {
		case err == nil:
			l.revision, l.valid = revision, asked.Add(l.ttl)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !l.mine(ctx):
			return err
		case time.Now().After(l.valid.Add(-l.ttl / 3)): // the next try would come too late
			return err
		}
	}
}

// mine looks whether the key is still this holder's, under a revision that came
// from a renewal whose answer was lost, and goes on from that.
func (l *lease) mine(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	entry, err := l.kv.Get(ctx, l.name)
	if err != nil || string(entry.Value()) != string(l.holder) {
		return false
	}
	l.revision = max(l.revision, entry.Revision())
	return true
}
