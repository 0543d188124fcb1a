package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/retry"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

const (
	contendWait    = 250 * time.Millisecond // between a standby's attempts to get the lease
	refusedWait    = 10 * time.Second       // until a replica that cannot know the stock tries again
	releaseTimeout = time.Second
)

// dutyWrite is the part of the service's work that the active writer does.
const dutyWrite = "active writer"

// errTakingOver is why a writer does not decide before it has folded the stream.
var errTakingOver = errors.New("taking over: orders are decided when the stream has been read")

// errLeaseLost ends a term whose holder could not keep its lease.
var errLeaseLost = errors.New("lease lost")

// lead runs term while this replica holds the lease, until ctx ends. Only one replica
// holds it at a time. When term returns before ctx ends, lead gives the lease up and
// tries to get it again. The context of term ends with the cause errLeaseLost when
// the lease could not be renewed in time.
//
// The replica is not ready while it cannot ask for the lease, and from the beginning of a
// term until term clears dutyWrite. A replica that stands by is ready.
//
// The lease alone does not keep a second replica from writing: a paused process
// notices too late that its lease has expired. That is the fencing token's work, see
// term.fence.
func lead(ctx context.Context, rt *service.Runtime, term func(ctx context.Context) error) error {
	for {
		pause := contendWait
		l, err := retry.Forever(ctx, contendWait, retry.Silent, func(attempt context.Context) (*lease, error) {
			l, err := acquire(attempt, rt)
			if err != nil && ctx.Err() == nil {
				rt.Stream.Duty(dutyWrite, err)
			}
			return l, err
		})
		if err != nil {
			return nil // ctx has ended
		}
		if l != nil {
			rt.Log.InfoContext(ctx, "lease acquired", "lease", Name, "holder", rt.Instance)
			rt.Stream.Preparing(dutyWrite, errTakingOver)
			err = l.hold(ctx, term)
			if ctx.Err() != nil {
				return nil
			}
			rt.Log.WarnContext(ctx, "lease given up", "lease", Name, "holder", rt.Instance, "error", err)
			if err != nil {
				rt.Stream.Duty(dutyWrite, err)
			}
			if errors.Is(err, errEventsGone) {
				pause = refusedWait
			}
		} else {
			// Another replica is the active writer, and this one is ready to take over.
			rt.Stream.Duty(dutyWrite, nil)
			rt.Stream.Duty(stream.DutyFollow, nil)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// lease is a held lease: a key in the bucket LEASES. The bucket's TTL removes the key
// of a holder that died.
type lease struct {
	kv       jetstream.KeyValue
	holder   string
	revision uint64
	ttl      time.Duration
	valid    time.Time // until then no other replica can hold it
}

// acquire creates the key. It returns nil while another replica holds the lease.
func acquire(ctx context.Context, rt *service.Runtime) (*lease, error) {
	kv, err := rt.Stream.Bucket(ctx, stream.LeasesBucket)
	if err != nil {
		return nil, err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the lease: %w", err)
	}
	asked := time.Now()
	revision, err := kv.Create(ctx, Name, []byte(rt.Instance))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the lease: %w", stream.Plain(err))
	}
	return &lease{kv: kv, holder: rt.Instance, revision: revision, ttl: status.TTL(), valid: asked.Add(status.TTL())}, nil
}

// hold runs term, renews the lease meanwhile, and releases it in the end.
func (l *lease) hold(ctx context.Context, term func(context.Context) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if err := l.renew(renewing); err != nil {
			lose(fmt.Errorf("%w: %w", errLeaseLost, err))
		}
	}()

	err := term(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errLeaseLost) {
		err = errors.Join(cause, err)
	}
	stop()
	<-renewed
	// A standby takes over at once. If the deletion fails, it waits for the TTL.
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = l.kv.Delete(release, Name, jetstream.LastRevision(l.revision))
	return err
}

// renew keeps the lease until ctx ends. It returns an error if it lost the lease.
func (l *lease) renew(ctx context.Context) error {
	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		asked := time.Now()
		attempt, cancel := context.WithTimeout(ctx, l.ttl/3)
		revision, err := l.kv.Update(attempt, Name, []byte(l.holder), l.revision)
		cancel()
		switch {
		case err == nil:
			l.revision, l.valid = revision, asked.Add(l.ttl)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !l.mine(ctx):
			return stream.Plain(err)
		case time.Now().After(l.valid.Add(-l.ttl / 3)): // the next attempt would come too late
			return stream.Plain(err)
		}
	}
}

// mine reports whether the key still belongs to this holder: the answer to an earlier
// renewal may have been lost. Then it continues from that renewal's revision.
func (l *lease) mine(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	entry, err := l.kv.Get(ctx, Name)
	if err != nil || string(entry.Value()) != l.holder {
		return false
	}
	l.revision = max(l.revision, entry.Revision())
	return true
}
