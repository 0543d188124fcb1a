package tracing

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream returns js with the methods that publish traced, see
// [Tracer.Publish]. The other methods are those of js.
//
// PublishAsync and PublishMsgAsync have no context: their span has no parent,
// unless the message has a context ([Tracer.StartSend] takes one). The span ends
// when the acknowledgement arrives. If the stream refuses a message for its size,
// the message is published once more without context. The error handler of js
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
	_, s := j.tracer.startSend(ctx, msg, opPublish, producer, j.Conn())
	bare := copyMsg(msg) // now, because the caller may use msg again
	inner, err := j.JetStream.PublishMsgAsync(s.Msg, opts...)
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
		ack, err := outcome(inner)
		if s.injected && tooLarge(err) {
			if again, refused := j.JetStream.PublishMsgAsync(bare, opts...); refused == nil {
				ack, err = outcome(again)
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

func outcome(f jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-f.Ok():
		return ack, nil
	case err := <-f.Err():
		return nil, err
	}
}

// PublishAsyncComplete also waits for the messages that are published once more.
func (j *tracedJetStream) PublishAsyncComplete() <-chan struct{} {
	complete, done := j.JetStream.PublishAsyncComplete(), make(chan struct{})
	go func() {
		defer close(done)
		<-complete
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
