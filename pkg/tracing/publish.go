package tracing

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Publisher is the part of [jetstream.JetStream] that [Tracer.Publish] needs.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Send is a publish span in progress. Start it with [Tracer.StartSend], end it
// with [Send.End].
type Send struct {
	// Msg is the message to publish: a copy whose headers carry the context of the
	// span. You can publish it several times. Its header is nil if it is empty.
	Msg *nats.Msg

	op       operation
	out      outgoing // Msg points to it
	injected bool
	ended    atomic.Bool
}

// StartSend starts a publish span for code that publishes by itself, for instance
// several times until the outcome is known. Publish [Send.Msg], and call
// [Send.End] with the outcome. The span's parent is the span in ctx; the returned
// context carries the new span. msg itself is not changed.
//
// The copy's headers carry the context of the span; headers of the propagator
// that msg already has are replaced, in any case. But a valid context in msg is a
// custom creation context and stays, with its baggage: the span then is a CLIENT
// span that links it. So a message that is sent on keeps its producer.
//
// If the header block came near the 64 KiB that JetStream stores, or the message
// near the payload limit ([WithConnection]), the baggage is left out, or else the
// whole context; it also is while the connection has no headers. StartSend does not
// know the MaxMsgSize of a stream; the other methods that publish try once more
// without context if the message is refused for its size.
func (t *Tracer) StartSend(ctx context.Context, msg *nats.Msg) (context.Context, *Send) {
	return t.startSend(ctx, msg, opPublish, producer, t.conn)
}

func (t *Tracer) startSend(ctx context.Context, msg *nats.Msg, name string, kind trace.SpanStartOption, nc *nats.Conn) (context.Context, *Send) {
	if msg == nil {
		msg = &nats.Msg{} // nats.go returns the error
	}
	s := &Send{
		op:  operation{tracer: t, name: name, subject: msg.Subject, ctx: ctx, span: noSpan},
		out: outgoing{Msg: nats.Msg{Subject: msg.Subject, Reply: msg.Reply, Data: msg.Data, Sub: msg.Sub}},
	}
	s.Msg = &s.out.Msg
	if t.filtered(msg.Subject, msg.Header) {
		s.ended.Store(true)
		s.out.copyHeader(msg.Header, nil)
		return ctx, s
	}
	fields := t.propagatorFields()
	s.out.copyHeader(msg.Header, fields.written)
	var links []trace.Link
	if fields.hasField(msg.Header, s.out.Header) {
		link := t.Link(msg.Header, RelationshipKey.String("creation"), semconv.MessagingDestinationName(msg.Subject))
		if link.SpanContext.IsValid() {
			links, kind = []trace.Link{link}, client
		}
	}
	if !t.off(ctx) {
		s.op.template = t.templateOf(msg.Subject)
		s.op.startSpan(ctx, kind, links, t.attributesOf(msg.Subject, msg.Header))
	}
	// The responder belongs to this request, whatever context its message had before.
	s.injected = links == nil || name == opRequest && trace.SpanContextFromContext(s.op.ctx).IsValid()
	if s.injected {
		s.out.inject(s.op.ctx, t, msg.Header, headerLimit(msg, nc))
	} else {
		s.out.copyHeader(msg.Header, nil)
	}
	t.inFlight.Add(1) // last, because functions of the caller may have panicked
	return s.op.ctx, s
}

// headerLimit returns the size that the header block of msg may have on nc.
func headerLimit(msg *nats.Msg, nc *nats.Conn) int {
	limit := maxHeader
	if nc != nil {
		if !nc.HeadersSupported() { // by the server, or not known yet
			return 0
		}
		if payload := int(nc.MaxPayload()); payload > 0 {
			limit = min(limit, payload-len(msg.Data))
		}
	}
	return limit - spareHeader
}

// End ends the span with the outcome of the publish: the stream, the sequence
// and whether the message is a duplicate, or the error. With a nil ack and a nil
// error the publish succeeded and nothing else is known. Only the first call
// counts. End is safe for concurrent use; [Tracer.Shutdown] waits for it.
//
// Some errors are no failures: code that loses a guard to its own earlier attempt
// can end the span with a nil error.
func (s *Send) End(ack *jetstream.PubAck, err error) {
	s.end(ack, errorType(err))
}

func (s *Send) end(ack *jetstream.PubAck, class string) {
	if s.ended.Swap(true) {
		return
	}
	if s.op.span.IsRecording() {
		s.describe(ack, class)
	}
	s.op.count(s.op.tracer.metrics.sent, 1, class)
	s.op.finish(class)
	s.op.tracer.inFlight.Add(-1)
}

// describe records what is known after the publish, including an id that a publish
// option has set.
func (s *Send) describe(ack *jetstream.PubAck, class string) {
	attrs := make([]attribute.KeyValue, 0, 3)
	id := messageID(s.Msg.Header)
	if class == "" && ack != nil {
		attrs = append(attrs, streamKey.String(ack.Stream), streamSequenceKey.Int64(int64(ack.Sequence)))
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
	if s.op.tracer.bodySize {
		attrs = append(attrs, semconv.MessagingMessageBodySize(len(s.Msg.Data)))
	}
	s.op.span.SetAttributes(attrs...)
}

// Publish publishes a copy of msg that carries the context of a new publish span,
// and returns the answer of js. See [Tracer.StartSend] for the copy. Publish does
// not change msg, so goroutines can share it.
//
// If the copy is refused for its size, Publish publishes msg without context:
// tracing never makes a publish fail.
func (t *Tracer) Publish(ctx context.Context, js Publisher, msg *nats.Msg, opts ...jetstream.PublishOpt) (ack *jetstream.PubAck, err error) {
	if t.filter == nil && msg != nil && t.off(ctx) {
		return t.pass(ctx, js, msg, opts)
	}
	ctx, s := t.startSend(ctx, msg, opPublish, producer, connOf(js, t.conn))
	err = s.op.do(func() (err error) {
		ack, err = js.PublishMsg(ctx, s.Msg, opts...)
		if s.injected && tooLarge(err) {
			s.Msg = copyMsg(msg)
			ack, err = js.PublishMsg(ctx, s.Msg, opts...)
		}
		return err
	}, func(class string) { s.end(ack, class) })
	return ack, err
}

// pass publishes a copy of msg with the context of ctx, without a span or metrics.
func (t *Tracer) pass(ctx context.Context, js Publisher, msg *nats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	o := &outgoing{Msg: nats.Msg{Subject: msg.Subject, Reply: msg.Reply, Data: msg.Data, Sub: msg.Sub}}
	fields := t.propagatorFields()
	o.copyHeader(msg.Header, fields.written)
	own := fields.hasField(msg.Header, o.Header) && t.creation(msg.Header).IsValid()
	if own {
		o.copyHeader(msg.Header, nil)
	} else {
		o.inject(ctx, t, msg.Header, headerLimit(msg, connOf(js, t.conn)))
	}
	t.inFlight.Add(1)
	defer t.inFlight.Add(-1)
	ack, err := js.PublishMsg(ctx, &o.Msg, opts...)
	if !own && tooLarge(err) {
		ack, err = js.PublishMsg(ctx, copyMsg(msg), opts...)
	}
	return ack, err
}

// copyMsg returns a copy of msg whose headers can be changed.
func copyMsg(msg *nats.Msg) *nats.Msg {
	o := outgoing{Msg: nats.Msg{Subject: msg.Subject, Reply: msg.Reply, Data: msg.Data, Sub: msg.Sub}}
	o.copyHeader(msg.Header, nil)
	return &o.Msg
}

// connOf returns the connection of js, or else conn, also for a test double that embeds a
// nil [jetstream.JetStream].
func connOf(js any, conn *nats.Conn) (nc *nats.Conn) {
	nc = conn
	defer func() { _ = recover() }()
	if c, ok := js.(interface{ Conn() *nats.Conn }); ok {
		nc = c.Conn()
	}
	return nc
}

var errHeaderTooLarge = &jetstream.APIError{ErrorCode: 10097} // equals the server's, by its code

// tooLarge reports whether a message was refused for its size, of which the header is a
// part: by a stream, or by the client.
func tooLarge(err error) bool {
	return errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) || errors.Is(err, errHeaderTooLarge) || errors.Is(err, nats.ErrMaxPayload)
}
