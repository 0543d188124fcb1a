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

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/pkg/tracing"
)

// Name is the name of the service and the key of its checkpoint.
const Name = "analytics"

// Service is the definition of analytics.
var Service = service.Definition{Name: Name, HTTPAddr: "127.0.0.1:8081", Wire: Wire}

// Consumes lists the subjects that are read. Some of the events change no number;
// they are read so that each trace of an order has a link to it from here.
var Consumes = []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}

// A batch is stored when it is full, or batchWait after its first event.
const (
	batchSize = 500
	batchWait = 100 * time.Millisecond
)

type analytics struct {
	*service.Runtime
	known atomic.Pointer[checkpoint] // the newest known one; it never changes, it is replaced
}

// Wire makes the service.
func Wire(rt *service.Runtime) (service.Part, error) {
	a := &analytics{Runtime: rt}
	a.know(newCheckpoint())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /analytics", a.serve)
	mux.HandleFunc("GET /assets/", web.Assets)
	mux.Handle("GET /{$}", http.RedirectHandler("/analytics", http.StatusSeeOther))
	return service.Part{Run: a.run, HTTP: mux}, nil
}

func (a *analytics) know(c checkpoint) { a.known.Store(&c) }

// run folds until ctx ends. After an error it continues from the stored checkpoint.
func (a *analytics) run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, time.Second
	_, _ = backoff.Retry(ctx, func() (any, error) { return nil, a.fold(ctx) }, // returns only when ctx has ended
		backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
			a.Log.Warn("fold failed; continuing from the stored checkpoint", "error", err)
		}))
	return nil
}

// fold reads events in stream order and stores them in batches. It returns nil when
// ctx ends.
func (a *analytics) fold(ctx context.Context) error {
	kv, err := a.bucket(ctx)
	if err != nil {
		return err
	}
	stored, err := load(ctx, kv)
	if err != nil {
		return err
	}
	a.know(stored)
	return a.batches(ctx, stored.AsOf+1, math.MaxUint64, func(batch []jetstream.Msg) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		return a.Tracing.ProcessBatch(ctx, batch, func(ctx context.Context, batch []jetstream.Msg) error {
			return a.record(ctx, kv, batch)
		}, tracing.WithLinkAttributes(stream.OrderID))
	})
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
				return err
			}
		}
		stored, err := load(ctx, kv)
		switch {
		case err != nil:
			return err
		case stored.revision > 0 && stored.revision <= known.revision: // the answer of a lagging replica
			time.Sleep(lagWait)
		case stored.AsOf < known.AsOf: // deleted or repaired: the missing events must be read again
			return fmt.Errorf("the stored checkpoint went back from sequence %d to %d", known.AsOf, stored.AsOf)
		default:
			a.know(stored)
		}
		if added == 0 {
			return nil
		}
	}
}

// with returns a copy of c with the events of a batch, and how many of them were
// new. It sets both numbers on the span of the batch.
func (a *analytics) with(ctx context.Context, c checkpoint, batch []jetstream.Msg) (next checkpoint, added int) {
	next = c.clone()
	for _, m := range batch {
		sequence := sequenceOf(m)
		if sequence <= next.AsOf {
			continue
		}
		e, err := stream.EventOf(m)
		if err == nil {
			err = next.add(e)
		}
		if err != nil {
			a.Log.WarnContext(ctx, "ignored an invalid message", "subject", m.Subject(), "error", err)
		}
		next.AsOf = sequence // also of an invalid one, or it would set a later AsOf back
		added++
	}
	trace.SpanFromContext(ctx).SetAttributes(
		attribute.Int("analytics.recorded", added),
		attribute.Int("batch.link_count", len(batch)))
	return next, added
}

// batches calls take with the events from one sequence to another, in stream order
// and in batches. It returns after the last one, when ctx ends, or with an error of
// take.
func (a *analytics) batches(ctx context.Context, from, upTo uint64, take func([]jetstream.Msg) error) error {
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
