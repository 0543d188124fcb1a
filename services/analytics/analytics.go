// Package analytics counts orders by state, revenue, units, and the time that
// orders take.
//
// It folds the events of all orders, in batches, into one checkpoint: the numbers
// and the sequence of the last event in them are stored as one value. So a crash
// neither loses nor repeats an event, and a deleted checkpoint is rebuilt from the
// stream. The service publishes no events.
package analytics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/pkg/tracing"
)

// Name is the name of the service and the key of its checkpoint.
const Name = "analytics"

// Service is the definition of analytics.
var Service = service.Definition{Name: Name, HTTPAddr: "127.0.0.1:8081", Wire: Wire, Waiting: web.Waiting}

// Consumes lists the subjects that are read. Some of the events change no number;
// they are read so that each trace of an order has a link to it from here.
var Consumes = event.OrderSubjects

// A batch is stored when it is full, or batchWait after its first event.
const (
	batchSize = 500
	batchWait = 100 * time.Millisecond
)

type analytics struct {
	*service.Runtime
	known atomic.Pointer[checkpoint] // the newest known one; it never changes, it is replaced

	storeFailed bool          // the last store; of fold's goroutines
	patience    time.Duration // of a replay
}

const dutyStore = "store the checkpoint"

// Wire makes the service.
func Wire(rt *service.Runtime) (service.Part, error) {
	a := &analytics{Runtime: rt}
	a.know(newCheckpoint())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /analytics", a.serve)
	mux.Handle("GET /{$}", http.RedirectHandler("/analytics", http.StatusSeeOther))
	return service.Part{Run: a.run, HTTP: web.SiteOf(rt.Settings).Handler(rt.NotReady, mux)}, nil
}

func (a *analytics) know(c checkpoint) { a.known.Store(&c) }

// run folds until ctx ends. After an error it continues from the stored checkpoint.
func (a *analytics) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.FollowReady(ctx, nil) })
	group.Go(func() error {
		wait := backoff.NewExponentialBackOff()
		wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, time.Second
		_, _ = backoff.Retry(ctx, func() (any, error) { return nil, a.fold(ctx) }, // returns only when ctx has ended
			backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
				// The duties have logged the others.
				if !errors.Is(err, stream.ErrReplaced) && !errors.Is(err, errNotLoaded) {
					a.Log.Warn("fold failed; continuing from the stored checkpoint", "error", err)
				}
			}))
		return nil
	})
	return group.Wait()
}

// fold reads events in stream order and stores them in batches. It returns nil when
// ctx ends.
func (a *analytics) fold(ctx context.Context) error {
	kv, err := a.bucket(ctx)
	var stored checkpoint
	if err == nil {
		stored, err = load(ctx, kv)
	}
	a.Stream.Duty("stored checkpoint", err)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotLoaded, err)
	}
	if stored, err = a.ofThisStream(ctx, stored); err != nil || ctx.Err() != nil {
		return err
	}
	if a.storeFailed { // perhaps no further event comes, so store the same again
		if err := storeAgain(ctx, kv, &stored); err != nil {
			return err
		}
		a.storeFailed = false
		a.Stream.Duty(dutyStore, nil)
	}
	a.know(stored)
	return a.batches(ctx, stored.position(), math.MaxUint64, func(batch []jetstream.Msg) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		return a.Tracing.ProcessBatch(ctx, batch, func(ctx context.Context, batch []jetstream.Msg) error {
			return a.record(ctx, kv, batch)
		}, tracing.WithLinkAttributes(stream.OrderID))
	})
}

// storeAgain stores a checkpoint that is stored. It returns nil if another instance has
// replaced it meanwhile.
func storeAgain(ctx context.Context, kv jetstream.KeyValue, c *checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := c.store(ctx, kv); !errors.Is(err, errOvertaken) {
		return err
	}
	return nil
}

// ofThisStream returns a stored checkpoint if it counts events of the present stream.
// Otherwise it returns an empty one, which will replace it.
func (a *analytics) ofThisStream(ctx context.Context, stored checkpoint) (checkpoint, error) {
	extent, err := a.Stream.AwaitExtent(ctx)
	if err != nil {
		return stored, nil // ctx has ended
	}
	err = a.Stream.Verify(ctx, stored.position())
	if errors.Is(err, stream.ErrReplaced) {
		a.Log.WarnContext(ctx, "ignored the stored numbers, which are of another stream", "error", err)
		fresh := newCheckpoint()
		fresh.revision = stored.revision
		stored, err = fresh, nil
	}
	stored.StreamCreated = extent.Created
	return stored, err
}

// record adds a batch to the stored checkpoint. It starts again when another
// instance has stored meanwhile, and adds the events that are still missing.
func (a *analytics) record(ctx context.Context, kv jetstream.KeyValue, batch []jetstream.Msg) error {
	for {
		known := *a.known.Load()
		next, added := a.with(ctx, known, batch)
		if added > 0 {
			err := next.store(ctx, kv)
			if err == nil {
				a.know(next)
			}
			if !errors.Is(err, errOvertaken) {
				a.storeFailed = err != nil
				a.Stream.Duty(dutyStore, err)
				return err
			}
		}
		stored, err := load(ctx, kv)
		switch {
		case err != nil:
			return err
		case stored.revision > 0 && stored.revision <= known.revision: // the answer of a lagging replica
			time.Sleep(lagWait)
		case stored.AsOf > 0 && !stored.StreamCreated.Equal(known.StreamCreated):
			return fmt.Errorf("the stored checkpoint is of another stream, created at %s", stored.StreamCreated)
		case stored.AsOf < known.AsOf: // deleted or repaired: the missing events must be read again
			return fmt.Errorf("the stored checkpoint went back from sequence %d to %d", known.AsOf, stored.AsOf)
		default:
			// Both belong to the present stream, or the batch must not be added: one
			// instance may have noticed that the stream was replaced before the other.
			for _, p := range []stream.Position{stored.position(), stored.position().After(batch[len(batch)-1])} {
				if err := a.Stream.Verify(ctx, p); err != nil {
					return err
				}
			}
			a.know(stored)
		}
		if added == 0 {
			a.storeFailed = false // another instance has stored the batch
			a.Stream.Duty(dutyStore, nil)
			return nil
		}
	}
}

// with returns a copy of c with the events of a batch, and how many of them were
// new. It sets both numbers on the span of the batch.
func (a *analytics) with(ctx context.Context, c checkpoint, batch []jetstream.Msg) (next checkpoint, added int) {
	next = c.clone()
	for _, m := range batch {
		if sequenceOf(m) <= next.AsOf {
			continue
		}
		e, err := stream.EventOf(m)
		if err == nil {
			err = next.add(e)
		}
		if err != nil {
			a.Log.WarnContext(ctx, "ignored an invalid message", "subject", m.Subject(), "error", err)
		}
		next.moveTo(next.position().After(m)) // also behind an invalid one, or it would set a later AsOf back
		added++
	}
	trace.SpanFromContext(ctx).SetAttributes(
		attribute.Int("analytics.recorded", added),
		attribute.Int("batch.link_count", len(batch)))
	return next, added
}

// batches calls take with the events between a position and a sequence, in stream order
// and in batches. It returns after the last one, when ctx ends, or with an error of
// take or of [stream.Client.Follow].
func (a *analytics) batches(ctx context.Context, from stream.Position, upTo uint64, take func([]jetstream.Msg) error) error {
	messages := make(chan jetstream.Msg, batchSize)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(messages)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		return a.Stream.Follow(ctx, Consumes, from, func(m jetstream.Msg) error {
			sequence := sequenceOf(m)
			if sequence <= upTo {
				select {
				case messages <- m:
				case <-ctx.Done():
					return ctx.Err() // or a later message could follow without this one
				}
			}
			if sequence >= upTo {
				stop()
			}
			return nil
		})
	})
	group.Go(func() error {
		for {
			batch := collect(messages)
			if len(batch) == 0 {
				return nil
			}
			if err := take(batch); err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// collect waits for a message and adds those that arrive within batchWait. It
// returns nothing when messages is closed.
func collect(messages <-chan jetstream.Msg) (batch []jetstream.Msg) {
	var waited <-chan time.Time
	for len(batch) < batchSize {
		select {
		case m, ok := <-messages:
			if !ok {
				return batch
			}
			if batch = append(batch, m); waited == nil {
				waited = time.After(batchWait)
			}
		case <-waited:
			return batch
		}
	}
	return batch
}

// sequenceOf returns the position of a stored message in the stream.
func sequenceOf(m jetstream.Msg) uint64 {
	meta, err := m.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}
