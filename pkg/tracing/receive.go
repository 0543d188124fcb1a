package tracing

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// Receive calls next, which takes one message like [jetstream.Consumer.Next], and
// returns its results. If there is a message, Receive makes a CLIENT span that
// lasts as long as next and links the message's producer. Its parent is the span
// in ctx. Process the message afterwards: the process span is not a child of the
// receive span.
//
// An empty poll (timeout, no messages, ctx ended, iterator closed) makes no span.
// Another error without a message makes a failed one.
//
// Consume and Messages deliver messages that were fetched before. They need no
// Receive: the process span shows when the message was handled.
func (t *Tracer) Receive(ctx context.Context, next func() (jetstream.Msg, error), opts ...ProcessOption) (jetstream.Msg, error) {
	start := time.Now()
	msg, err := next()
	var msgs []jetstream.Msg
	if msg != nil {
		msgs = []jetstream.Msg{msg}
	}
	t.received(ctx, start, msgs, false, err, opts)
	if msg != nil {
		msg = msgs[0]
	}
	return msg, err
}

// ReceiveBatch calls fetch, which asks for messages like
// [jetstream.Consumer.Fetch], waits for all that come, and returns them. The error
// is that of fetch, or the one that ended the batch early; the messages that came
// before it are returned too. The span is like that of [Tracer.Receive], with a
// link for every message.
//
// How long it waits is up to fetch: see [jetstream.FetchMaxWait] and
// [jetstream.FetchContext].
func (t *Tracer) ReceiveBatch(ctx context.Context, fetch func() (jetstream.MessageBatch, error), opts ...ProcessOption) ([]jetstream.Msg, error) {
	start := time.Now()
	batch, err := fetch()
	var msgs []jetstream.Msg
	if err == nil && batch != nil {
		for msg := range batch.Messages() {
			msgs = append(msgs, msg)
		}
		err = batch.Error()
	}
	t.received(ctx, start, msgs, true, err, opts)
	return msgs, err
}

// received makes the receive span, counts msgs, and marks them as counted.
func (t *Tracer) received(ctx context.Context, start time.Time, msgs []jetstream.Msg, batch bool, err error, opts []ProcessOption) {
	if len(msgs) == 0 && (err == nil || emptyPoll(err)) {
		return
	}
	c := newProcessConfig(opts)
	deliveries := t.readAll(msgs)
	if !batch && len(msgs) > 0 && t.filtered(deliveries[0].subject, deliveries[0].header) {
		return
	}
	o := operation{tracer: t, name: opReceive}
	if t.metrics.enabled(ctx) {
		o.start = start
	}
	o.startBatch(ctx, client, deliveries, batch && len(msgs) > 0, &c, trace.WithTimestamp(start))
	o.count(t.metrics.consumed, o.uncounted(deliveries), "")
	if emptyPoll(err) { // after the messages
		err = nil
	}
	o.finish(errorType(err))
	for i := range deliveries {
		if d := &deliveries[i]; d.counted {
			msg := &counted{d.Msg}
			runtime.AddCleanup(msg, func(reply string) { t.counted.Delete(reply) }, d.reply)
			msgs[i] = msg
		}
	}
}

// counted is a message that Receive has counted, which the Tracer knows as long as the
// program holds it.
type counted struct{ jetstream.Msg }

// emptyPoll reports whether err says that there was nothing to receive.
func emptyPoll(err error) bool {
	for _, empty := range []error{
		nats.ErrTimeout, jetstream.ErrNoMessages, jetstream.ErrMsgIteratorClosed, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, empty) {
			return true
		}
	}
	return false
}
