// Package stream implements ordertrail's JetStream patterns, so that a service
// contains only its own rules:
//
//   - [Client.PublishOnce] stores an event exactly once, however often it is retried
//   - [Client.OrderEvents], [Client.History] read an order's events: they are its state
//   - [Client.Consume] runs competing consumers on a [Durable], with explicit acks
//   - [Client.Redrive] sends dead letters to their consumer again
//   - [Client.Schedule] and [Client.ScheduleMail] set timers that survive a crash of every process
//   - [Client.Follow] folds the log in stream order
//   - [Provision] creates the streams, consumers and buckets for all of it
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing"
)

// Client is a service's access to the streams. It is safe for concurrent use.
type Client struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	tracing *tracing.Tracer
	log     *slog.Logger
	answers answers
	lasts   *shared[uint64] // see LastSequence
	waiting *shared[uint64] // see MailScheduled
	duties  duties

	upheavals atomic.Uint64 // fetches that failed; see epoch

	checkWait, redriveTimeout time.Duration // see the constants; shorter in tests

	onStore   func(event.Type, string)
	onDeliver func(durable string, m jetstream.Msg) []jetstream.Msg
}

// Option changes a Client. Both options exist for tests.
type Option func(*Client)

// OnStore makes PublishOnce call f after it has stored an event, before it returns.
func OnStore(f func(t event.Type, key string)) Option { return func(c *Client) { c.onStore = f } }

// OnDeliver makes Consume handle the messages that f returns in place of each delivery.
func OnDeliver(f func(durable string, m jetstream.Msg) []jetstream.Msg) Option {
	return func(c *Client) { c.onDeliver = f }
}

// New returns a Client on a connection, which the caller closes.
func New(nc *nats.Conn, tracer *tracing.Tracer, log *slog.Logger, opts ...Option) (*Client, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	c := &Client{nc: nc, js: js, tracing: tracer, log: log, checkWait: checkWait, redriveTimeout: redriveTimeout, lasts: newShared[uint64](), waiting: newShared[uint64]()}
	for _, o := range opts {
		o(c)
	}
	c.answers.pending, c.duties.failing, c.duties.durables = map[string]chan *nats.Msg{}, map[string]*failing{}, map[string]Durable{}
	return c, nil
}

// JetStream returns the underlying context, for operations without a pattern here.
func (c *Client) JetStream() jetstream.JetStream { return c.js }

// Bucket opens a bucket. If it does not exist, the error wraps
// [jetstream.ErrBucketNotFound], and names the bucket and the command that makes it.
func (c *Client) Bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := c.js.KeyValue(ctx, name)
	if err != nil {
		return nil, missing("bucket "+name, err)
	}
	return kv, nil
}

// ErrUnavailable is wrapped by the errors of reads and publishes whose context ended
// before NATS could carry them out: it is away, without a leader, or full.
var ErrUnavailable = errors.New("NATS is unavailable")

const (
	attemptTimeout = time.Second      // of one request; the caller's context bounds all of them
	firstWait      = time.Millisecond // before the second attempt; doubled for each further one
	lastWait       = 50 * time.Millisecond
)

// ask calls try until it succeeds or its error is final. It returns ErrUnavailable
// if ctx ends first, but not if ctx has ended before: then NATS is not to blame.
func ask[T any](ctx context.Context, try func(context.Context) (T, error)) (answer T, err error) {
	if err := ctx.Err(); err != nil {
		return answer, err
	}
	var cause error
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		answer, err = try(attempt)
		cancel()
		if err == nil || IsPermanent(err) || lostGuard(err) != nil || errors.Is(err, nats.ErrConnectionClosed) {
			return answer, err
		}
		if cause == nil || ctx.Err() == nil { // an attempt that ctx has cut off explains nothing
			cause = err
		}
		if pause(ctx, wait) != nil {
			return answer, unavailableError{cause}
		}
	}
}

// permanentError marks a failure that no retry can heal.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks err as one that no retry can heal: the event becomes a dead
// letter at once. Every other error of a handler is retried.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsPermanent reports whether [Permanent] marked err, or err is an event.ErrForeign.
func IsPermanent(err error) bool {
	var p permanentError
	return errors.As(err, &p) || errors.Is(err, event.ErrForeign)
}

// OrderID returns the attribute that names a message's order, for spans and links.
// It returns nil for a message that belongs to no order.
func OrderID(m jetstream.Msg) []attribute.KeyValue {
	_, subject, _ := event.CutRedrive(m.Subject())
	t, key, err := event.ParseSubject(subject)
	if err != nil || t.Domain() == "stock" {
		return nil
	}
	return []attribute.KeyValue{event.OrderIDKey.String(key)}
}

// EventOf converts a delivered message. It returns event.ErrForeign for a message
// that no service published in this form.
func EventOf(m jetstream.Msg) (event.Event, error) {
	e, err := event.Check(m.Subject(), m.Headers(), m.Data())
	if err != nil {
		return e, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return e, fmt.Errorf("read the metadata of %s: %w", m.Subject(), err)
	}
	e.Sequence, e.Time, e.Delivery = meta.Sequence.Stream, meta.Timestamp, meta.NumDelivered
	return e, nil
}

// pause waits for d. It returns ctx's error if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
