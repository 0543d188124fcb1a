// Package analytics counts orders by state, revenue, units and how long orders
// take, of all events of all orders.
//
// It folds the stream in batches into one aggregate, which is stored together
// with the sequence it is good for: a crash neither loses nor repeats an event,
// and an aggregate that is deleted grows back the same. It publishes nothing.
package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ordertrail/internal/service"
	"ordertrail/internal/stream"
	"ordertrail/pkg/tracing"
)

// Name is the service's, and the key of its aggregate.
const Name = "analytics"

// DefaultHTTPAddr is where GET /analytics is served if HTTP_ADDR says nothing.
const DefaultHTTPAddr = "127.0.0.1:8081"

// Consumes lists what is counted; events that change no count are read too, so
// that every trace of an order leads here.
var Consumes = []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}

// A batch is recorded when it is full, or has waited long enough.
const (
	batchSize    = 500
	batchWait    = 100 * time.Millisecond
	storeTimeout = 5 * time.Second
	retryWait    = time.Second
	lagWait      = 10 * time.Millisecond
)

type analytics struct {
	*service.Runtime

	mu       sync.Mutex
	current  Aggregate // as stored
	revision uint64    // of the stored value; 0: none yet
}

// Wire makes the service.
func Wire(rt *service.Runtime) (service.Part, error) {
	a := &analytics{Runtime: rt}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /analytics", a.serve)
	return service.Part{Run: a.run, HTTP: mux}, nil
}

// run folds until ctx ends; whatever goes wrong, it starts again from what is
// stored.
func (a *analytics) run(ctx context.Context) error {
	for {
		err := a.fold(ctx)
		if ctx.Err() != nil {
			return nil
		}
		a.Log.Warn("will fold again from the stored aggregate", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryWait):
		}
	}
}

// fold reads events in stream order and records them in batches.
func (a *analytics) fold(ctx context.Context) error {
	kv, err := a.Stream.JetStream().KeyValue(ctx, stream.AnalyticsBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", stream.AnalyticsBucket, err)
	}
	if err := a.load(ctx, kv); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	messages := make(chan jetstream.Msg, batchSize)
	followed := make(chan error, 1)
	go func() {
		defer close(messages)
		followed <- a.Stream.Follow(ctx, Consumes, a.current.AsOf+1, func(m jetstream.Msg) error {
			select {
			case messages <- m:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	for err == nil {
		batch := collect(messages)
		if batch == nil {
			return <-followed
		}
		err = a.record(ctx, kv, batch)
	}
	stop()
	<-followed
	return err
}

// collect waits for a message and takes those that follow it soon. It returns nil
// when there will be none.
func collect(messages <-chan jetstream.Msg) []jetstream.Msg {
	first, ok := <-messages
	if !ok {
		return nil
	}
	batch := []jetstream.Msg{first}
	timer := time.NewTimer(batchWait)
	defer timer.Stop()
	for len(batch) < batchSize {
		select {
		case m, ok := <-messages:
			if !ok {
				return batch
			}
			batch = append(batch, m)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// record adds a batch to the stored aggregate, in one span with a link to each
// event's producer.
func (a *analytics) record(ctx context.Context, kv jetstream.KeyValue, batch []jetstream.Msg) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return a.Tracing.ProcessBatch(ctx, batch, func(ctx context.Context, batch []jetstream.Msg) error {
		for {
			next, recorded := a.with(ctx, batch)
			trace.SpanFromContext(ctx).SetAttributes(
				attribute.Int("analytics.recorded", recorded),
				attribute.Int("batch.link_count", len(batch)))
			if recorded == 0 {
				return nil // another instance has recorded them all
			}
			err := a.store(ctx, kv, next)
			if !errors.Is(err, errOvertaken) {
				return err
			}
			// Another instance was faster: go on from what it stored. If that is less
			// than we had, the value was deleted, and all before this batch is missing.
			had, revision := a.current.AsOf, a.revision
			if err := a.load(ctx, kv); err != nil {
				return err
			}
			if a.revision == revision { // a replica answered that lags
				select {
				case <-time.After(lagWait):
					continue
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if a.current.AsOf < had {
				return fmt.Errorf("the stored aggregate went back from sequence %d to %d", had, a.current.AsOf)
			}
		}
	}, tracing.Ephemeral(), tracing.LinkAttributes(stream.OrderID))
}

// with returns the current aggregate with the batch's events added, and how many
// of these were new to it.
func (a *analytics) with(ctx context.Context, batch []jetstream.Msg) (next Aggregate, recorded int) {
	a.mu.Lock()
	next = a.current.clone()
	a.mu.Unlock()
	for _, m := range batch {
		meta, err := m.Metadata()
		if err != nil {
			a.Log.WarnContext(ctx, "ignored a message without a sequence", "subject", m.Subject(), "error", err)
			continue
		}
		// Foreign messages too: taken again, they would turn the sequence back, and
		// what follows them would count twice.
		if meta.Sequence.Stream <= next.AsOf {
			continue
		}
		e, err := stream.EventOf(m)
		if err == nil {
			err = next.add(e)
		}
		if err != nil {
			a.Log.WarnContext(ctx, "ignored a message", "subject", m.Subject(), "error", err)
		}
		next.AsOf = meta.Sequence.Stream
		recorded++
	}
	return next, recorded
}

// serve answers GET /analytics.
func (a *analytics) serve(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	current := a.current.clone()
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(current.report()); err != nil {
		a.Log.Debug("answer GET /analytics", "error", err)
	}
}
