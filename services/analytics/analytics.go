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
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/pkg/tracing"
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
	showTimeout  = 500 * time.Millisecond
	retryWait    = time.Second
	lagWait      = 10 * time.Millisecond
)

type analytics struct {
	*service.Runtime

	mu       sync.Mutex
	current  Aggregate // as stored
	revision uint64    // of the stored value; 0: none yet
}

// Service is analytics. As a separate process it listens on port 8081.
var Service = service.Definition{Name: Name, HTTPAddr: DefaultHTTPAddr, Wire: Wire}

// Wire makes the service.
func Wire(rt *service.Runtime) (service.Part, error) {
	a := &analytics{Runtime: rt, current: newAggregate()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /analytics", a.serve)
	mux.HandleFunc("GET /assets/", web.Assets)
	mux.Handle("GET /{$}", http.RedirectHandler("/analytics", http.StatusSeeOther))
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
	kv, err := a.bucket(ctx)
	if err != nil {
		return err
	}
	if err := a.load(ctx, kv); err != nil {
		return err
	}
	return a.batches(ctx, math.MaxUint64, func(batch []jetstream.Msg) error {
		return a.record(ctx, kv, batch)
	})
}

// errReached ends a Follow at the event that was to be the last.
var errReached = errors.New("reached the last event")

// batches has take work on the events that the current aggregate lacks, up to the
// sequence upTo, in stream order and in batches. It returns when that is reached,
// ctx has ended, or take has failed.
func (a *analytics) batches(ctx context.Context, upTo uint64, take func([]jetstream.Msg) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	from := a.current.AsOf + 1
	messages := make(chan jetstream.Msg, batchSize)
	followed := make(chan error, 1)
	go func() {
		defer close(messages)
		followed <- a.Stream.Follow(ctx, Consumes, from, func(m jetstream.Msg) error {
			sequence := uint64(0)
			if meta, err := m.Metadata(); err == nil {
				sequence = meta.Sequence.Stream
			}
			if sequence > upTo {
				return errReached
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return ctx.Err() // or the next one could still get in, and this one be missing
			}
			if sequence == upTo {
				return errReached
			}
			return nil
		})
	}()
	for {
		batch := collect(messages)
		if batch == nil {
			if err := <-followed; !errors.Is(err, errReached) {
				return err
			}
			return nil
		}
		if err := take(batch); err != nil {
			stop()
			<-followed
			return err
		}
	}
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
			if recorded > 0 {
				if err := a.store(ctx, kv, next); !errors.Is(err, errOvertaken) {
					return err
				}
			}
			// Another instance was faster, or has recorded them all: go on from what it
			// stored.
			newer, err := a.reload(ctx, kv)
			if err != nil || recorded == 0 {
				return err
			}
			if newer {
				continue
			}
			select { // a replica answered that lags
			case <-time.After(lagWait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, tracing.Ephemeral(), tracing.LinkAttributes(stream.OrderID))
}

// with returns the current aggregate with the batch's events added, and how many
// of these were new to it, which it notes on the batch's span.
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
	trace.SpanFromContext(ctx).SetAttributes(
		attribute.Int("analytics.recorded", recorded),
		attribute.Int("batch.link_count", len(batch)))
	return next, recorded
}

// serve answers GET /analytics: with a page for a browser, else with JSON.
func (a *analytics) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if web.WantsHTML(r) {
		if err := web.SiteOf(a.Settings).Write(w, r, http.StatusOK, page(a.newest(r.Context()), time.Now())); err != nil {
			a.Log.Debug("answer GET /analytics", "error", err)
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(a.newest(r.Context()).report()); err != nil {
		a.Log.Debug("answer GET /analytics", "error", err)
	}
}

// newest returns what is stored, which may be another instance's, or what this one
// has in memory if that is newer or NATS is away. It leaves current and revision
// alone: the next compare-and-set is based on them.
func (a *analytics) newest(ctx context.Context) Aggregate {
	ctx, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	var shown Aggregate
	revision := uint64(0)
	kv, err := a.bucket(ctx)
	if err == nil {
		shown, revision, err = read(ctx, kv)
	}
	if err != nil {
		a.Log.DebugContext(ctx, "showing the aggregate in memory", "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || a.revision >= revision {
		return a.current.clone()
	}
	return shown
}
