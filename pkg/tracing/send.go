package tracing

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Send is a send span in progress. Make it with [Tracer.StartSend], end it with
// [Send.End].
type Send struct {
	// Msg is the message to publish: a copy of the given one whose headers
	// carry the span's context. It may be published several times, for example
	// until an outcome is known.
	Msg *nats.Msg

	span     trace.Span
	injected []string // headers that may be taken out again
	ended    atomic.Bool
}

// StartSend starts a send span for callers who publish themselves: with
// [jetstream.JetStream.PublishMsgAsync], or repeatedly within one span. They
// publish [Send.Msg], and call [Send.End] when the outcome is known. The
// returned context carries the span. The span's parent is the span in ctx.
//
// Headers in which msg has a context of the propagator's are replaced, whatever
// their case, with one exception: a valid context that msg already carries is a
// custom creation context, as the semantic conventions call it, and stays, with
// its baggage; the span is a CLIENT then and links it. So a message that is sent
// on keeps its producer.
//
// Tracing never makes a publish fail for its size: where the header block would
// come near the 64 KiB that a server takes, the baggage is left out, and if that
// is not enough, the context.
func (t *Tracer) StartSend(ctx context.Context, msg *nats.Msg) (context.Context, *Send) {
	if msg == nil {
		msg = &nats.Msg{} // publishing it fails as it should
	}
	p, fields := t.propagation()
	creation := createdBy(p, fields, msg.Header)
	sh := t.shape(shapeKey{operation: opPublish, link: creation.IsValid(), template: t.templateOf(msg.Subject)})

	opts := make([]trace.SpanStartOption, 0, 3)
	opts = append(opts, sh.kind, trace.WithAttributes(sh.with(msg.Subject, nil)...))
	if creation.IsValid() {
		opts = append(opts, trace.WithLinks(newLink(creation, msg.Header, 0,
			RelationshipKey.String("creation"), semconv.MessagingDestinationName(msg.Subject))))
	}
	ctx, span := t.tracer().Start(ctx, sh.name, opts...)

	s := &Send{Msg: &nats.Msg{Subject: msg.Subject, Reply: msg.Reply, Data: msg.Data, Sub: msg.Sub}, span: span}
	if creation.IsValid() {
		s.Msg.Header = cloneHeader(msg.Header, nil)
		return ctx, s
	}
	s.Msg.Header, s.injected = cloneHeader(msg.Header, fields), fields
	inject(ctx, p, fields, s.Msg.Header)
	return ctx, s
}

// fitPayload keeps the message below the payload limit of nc, as far as tracing
// has made it longer.
func (s *Send) fitPayload(nc *nats.Conn) {
	if nc == nil {
		return
	}
	if limit := int(nc.MaxPayload()); limit > 0 {
		shrink(s.Msg.Header, s.injected, limit-len(s.Msg.Data)-spareHeader)
	}
}

// End ends the span with the outcome of the publish: the stream, the sequence
// and whether the server took the message for a duplicate, or an error. A nil
// ack with a nil error ends it as a success of which nothing is known. Only the
// first call counts; End is safe for concurrent use.
//
// An error is not always a failure: a publisher that loses a guard to its own
// earlier attempt may end the span with a nil error.
func (s *Send) End(ack *jetstream.PubAck, err error) {
	if s.ended.Swap(true) {
		return
	}
	s.record(ack, err)
	if err != nil {
		fail(s.span, err)
	}
	s.span.End()
}

// conclude is End for a publish that may panic. Like the function it ends with
// it is to be deferred itself.
func (s *Send) conclude(returned *bool, ack **jetstream.PubAck, err *error) {
	if *returned {
		s.End(*ack, *err)
		return
	}
	s.ended.Store(true)
	concludeUnreturned(s.span, recover())
}

// record says what is known of the message now. That includes its id, which a
// publish option may have put into the copy's header only lately.
func (s *Send) record(ack *jetstream.PubAck, err error) {
	if !s.span.IsRecording() {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 4)
	id := messageID(s.Msg.Header)
	if err == nil && ack != nil {
		attrs = append(attrs, streamKey.String(ack.Stream), integer(streamSequenceKey, ack.Sequence))
		if ack.Duplicate {
			attrs = append(attrs, duplicateKey.Bool(true))
		}
		if id == "" {
			id = strconv.FormatUint(ack.Sequence, 10)
		}
	}
	if id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(id))
	}
	if len(attrs) > 0 {
		s.span.SetAttributes(attrs...)
	}
}
