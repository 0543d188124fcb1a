package tracing

import (
	"cmp"
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

// received makes the receive span and marks msgs as counted.
func (t *Tracer) received(ctx context.Context, start time.Time, msgs []jetstream.Msg, batch bool, err error, opts []ProcessOption) {
	if len(msgs) == 0 && (err == nil || emptyPoll(err)) {
		return
	}
	c := newProcessConfig(opts)
	c.relationship = cmp.Or(c.relationship, "received")
	infos := make([]message, len(msgs))
	for i, msg := range msgs {
		infos[i] = t.read(msg)
	}
	o := operation{tracer: t, name: opReceive, group: c.group}
	if t.metrics.enabled(ctx) {
		o.start = start
	}
	at := trace.WithTimestamp(start)
	switch {
	case batch:
		o.startBatch(ctx, msgs, func(i int) *message { return &infos[i] }, &c, at)
	case len(msgs) == 0:
		o.startSpan(ctx, client, c.destination, nil, nil, c.attributes, at)
	default:
		m := &infos[0]
		o.subject, o.template = m.subject, t.templateOf(m.subject)
		var links []trace.Link
		if creation := t.creation(m.header); creation.IsValid() {
			links = append(links, c.link(creation, m, msgs[0]))
		}
		destination := c.destination
		if fixedTokens(o.template) == "" {
			destination = cmp.Or(destination, m.stream())
		}
		o.startSpan(ctx, client, destination, m, links, c.attributes, at)
	}
	o.count(t.metrics.consumed, len(msgs), "")
	o.finish(errorType(err))
	if !o.start.IsZero() {
		for i, msg := range msgs {
			msgs[i] = t.markCounted(msg, infos[i].md)
		}
	}
}

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

// counted is a message that Receive has counted, so that Process does not count
// it again.
type counted struct{ jetstream.Msg }

// markCounted returns msg, marked as counted. Code of the caller may wrap the
// result, so the Tracer also remembers the delivery, as long as the program holds
// the result.
func (t *Tracer) markCounted(msg jetstream.Msg, md *jetstream.MsgMetadata) jetstream.Msg {
	c := &counted{msg}
	if md != nil {
		t.counted.Store(idOf(md), nil)
		runtime.AddCleanup(c, func(id deliveryID) { t.counted.Delete(id) }, idOf(md))
	}
	return c
}

func (t *Tracer) countedBefore(msg jetstream.Msg, md *jetstream.MsgMetadata) bool {
	if _, ok := msg.(*counted); ok || md == nil {
		return ok
	}
	_, ok := t.counted.Load(idOf(md))
	return ok
}
