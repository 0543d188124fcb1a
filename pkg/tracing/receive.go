package tracing

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// Receive calls next, which takes one message as [jetstream.Consumer.Next] does,
// and returns what it returns. If there was a message it makes a receive span:
// of kind CLIENT, as long as next took, a child of the span in ctx, if there is
// one. The span links the message's producer. Process the message afterwards:
// the process span is no child of the receive span.
//
// A poll that comes back empty (timeout, no messages, ctx ended, iterator
// closed) makes no span, for it would be as frequent as there is nothing to do.
// Any other error without a message makes one that has failed.
//
// Whoever consumes by callback or by [jetstream.Consumer.Messages] is handed
// messages that were fetched before; there is no need to receive them, Process
// says when they were handed over.
//
// Of opts those that change links and names have an effect. Links are labelled
// received unless [Relationship] says otherwise.
func (t *Tracer) Receive(ctx context.Context, next func() (jetstream.Msg, error), opts ...ProcessOption) (jetstream.Msg, error) {
	start := time.Now()
	msg, err := next()
	var msgs []jetstream.Msg
	if msg != nil {
		msgs = []jetstream.Msg{msg}
	}
	if handed := t.received(ctx, start, msgs, false, err, opts); len(handed) > 0 {
		msg = handed[0]
	}
	return msg, err
}

// ReceiveBatch calls fetch, which asks for messages as [jetstream.Consumer.Fetch]
// does, waits for all that come and returns them, together with the error that
// ended the batch early, if there was one. In that case some messages may have
// come; they are to be processed. See [Tracer.Receive] for the span, which has a
// link for every message.
//
// fetch says how long to wait: with [jetstream.FetchContext] until a context
// ends.
func (t *Tracer) ReceiveBatch(ctx context.Context, fetch func() (jetstream.MessageBatch, error), opts ...ProcessOption) ([]jetstream.Msg, error) {
	start := time.Now()
	batch, err := fetch()
	var msgs []jetstream.Msg
	if err == nil {
		for msg := range batch.Messages() {
			msgs = append(msgs, msg)
		}
		err = batch.Error()
	}
	return t.received(ctx, start, msgs, true, err, opts), err
}

// received makes the receive span and returns the messages, marked as counted.
func (t *Tracer) received(ctx context.Context, start time.Time, msgs []jetstream.Msg, batch bool, err error, opts []ProcessOption) []jetstream.Msg {
	class := errorType(err)
	if len(msgs) == 0 && (err == nil || emptyPoll(err)) {
		return nil
	}
	var o processOptions
	o.apply(opts)
	if o.relationship == "" {
		o.relationship = "received"
	}
	key := shapeKey{operation: opReceive, destination: o.destination}
	var md *jetstream.MsgMetadata
	if len(msgs) > 0 {
		md, _ = msgs[0].Metadata()
		o.consumer(&key, md)
	}
	if !batch && len(msgs) > 0 {
		key.template = t.templateOf(msgs[0].Subject())
	}
	sh, at := t.shape(&key), trace.WithTimestamp(start)
	var span trace.Span
	if batch {
		ctx, span = t.startBatch(ctx, sh, key.stream, msgs, &o, at)
	} else {
		ctx, span = sh.starter().start(ctx, t.tracer(), commonSubject(msgs), at,
			trace.WithAttributes(o.attributes...), trace.WithLinks(t.links(msgs, &o)...))
		if len(msgs) > 0 && span.IsRecording() {
			t.describeMessage(span, messageID(msgs[0].Headers()), msgs[0], md)
		}
	}
	i := t.instruments()
	sh.took(ctx, i.operation, start, class)
	sh.count(ctx, i.consumed, len(msgs), "")
	endSpan(span, class)

	handed := make([]counted, len(msgs))
	all := make([]jetstream.Msg, len(msgs))
	for n, msg := range msgs {
		handed[n] = counted{msg}
		all[n] = &handed[n]
	}
	return all
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

// counted is a message that was counted when it was received, and is not to be
// counted again when it is processed.
type counted struct{ jetstream.Msg }

// countedAlready reports whether msg was received or is being processed.
func countedAlready(msg jetstream.Msg) bool {
	switch msg.(type) {
	case *counted, *delivery:
		return true
	}
	return false
}

// uncounted returns how many of msgs are to be counted.
func uncounted(msgs []jetstream.Msg) int {
	n := 0
	for _, msg := range msgs {
		if !countedAlready(msg) {
			n++
		}
	}
	return n
}
