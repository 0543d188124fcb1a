package tracing

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream returns js with the methods that publish traced, see
// [Tracer.Publish]. The other methods are those of js.
//
// PublishAsync and PublishMsgAsync have no context: their span has no parent,
// unless the message has a context ([Tracer.StartSend] takes one). The span ends
// when the acknowledgement arrives, or soon after the connection is closed; then so
// does the future. If the stream refuses a message for its size, the message is
// published once more without context. The error handler of js
// ([jetstream.WithPublishAsyncErrHandler]) sees the first refusal, because a client
// does not know the MaxMsgSize of a stream; the future and the span have the outcome.
//
// Consumers of js are not traced: wrap their handlers with [Tracer.Handler], or
// call [Tracer.Process] for each message.
func (t *Tracer) JetStream(js jetstream.JetStream) jetstream.JetStream {
	return &tracedJetStream{JetStream: js, tracer: t}
}

type tracedJetStream struct {
	jetstream.JetStream
	tracer  *Tracer
	pending inFlight // asynchronous publishes
}

func (j *tracedJetStream) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return j.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, opts...)
}

func (j *tracedJetStream) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return j.tracer.Publish(ctx, j.JetStream, msg, opts...)
}

func (j *tracedJetStream) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return j.PublishMsgAsync(&nats.Msg{Subject: subject, Data: data}, opts...)
}

func (j *tracedJetStream) PublishMsgAsync(msg *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	ctx := context.Background()
	if j.tracer.off(ctx) {
		return j.JetStream.PublishMsgAsync(msg, opts...)
	}
	nc := connOf(j.JetStream, j.tracer.conn)
	_, s := j.tracer.startSend(ctx, msg, opPublish, producer, nc)
	bare := copyMsg(msg) // now, because the caller may use msg again
	inner, err := j.JetStream.PublishMsgAsync(s.Msg, opts...)
	if s.injected && tooLarge(err) {
		s.injected = false
		inner, err = j.JetStream.PublishMsgAsync(bare, opts...)
	}
	if err != nil {
		s.End(nil, err)
		return nil, err
	}
	// A second reader of the inner future would get nothing, so the caller gets
	// a future of its own.
	f := &future{msg: inner.Msg(), ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1)}
	j.pending.Add(1)
	go func() {
		defer j.pending.Add(-1)
		ack, err := outcome(inner, nc)
		for stalls := 0; s.injected && tooLarge(err); stalls++ {
			again, refused := j.JetStream.PublishMsgAsync(bare, opts...)
			if errors.Is(refused, jetstream.ErrTooManyStalledMsgs) && stalls < maxStalls && (nc == nil || !nc.IsClosed()) {
				continue // it has waited
			}
			s.injected = false
			if err = refused; err == nil {
				ack, err = outcome(again, nc)
			}
		}
		s.End(ack, err)
		if err != nil {
			f.err <- err
		} else {
			f.ok <- ack
		}
	}()
	return f, nil
}

// outcome waits for the outcome of a publish on nc. A future has none if nc is closed.
func outcome(f jetstream.PubAckFuture, nc *nats.Conn) (*jetstream.PubAck, error) {
	check := time.NewTicker(closedCheck)
	defer check.Stop()
	for closed := false; ; {
		select {
		case ack := <-f.Ok():
			return ack, nil
		case err := <-f.Err():
			return nil, err
		case <-check.C:
			if closed {
				return nil, nats.ErrConnectionClosed
			}
			closed = nc != nil && nc.IsClosed() // what came before is read first
		}
	}
}

// maxStalls is how often a publish without context is tried while too many others wait for
// their answers. Each try waits, 200 ms by default.
const maxStalls = 50

// closedCheck is how often the wait for an outcome looks whether the connection is closed.
const closedCheck = time.Second

// PublishAsyncComplete also waits for the messages that are published once more, and
// only a moment for those on a closed connection, which have no outcome.
func (j *tracedJetStream) PublishAsyncComplete() <-chan struct{} {
	if j.pending.Load() == 0 {
		return j.JetStream.PublishAsyncComplete()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = j.pending.wait(context.Background())
	}()
	return done
}

// future is the outcome of an asynchronous publish.
type future struct {
	msg *nats.Msg
	ok  chan *jetstream.PubAck
	err chan error
}

func (f *future) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f *future) Err() <-chan error            { return f.err }
func (f *future) Msg() *nats.Msg               { return f.msg }
