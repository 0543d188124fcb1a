package tracing

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

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
	// until an outcome is known. Its header is nil if there is nothing in it.
	Msg *nats.Msg

	msg         nats.Msg // what Msg points to
	tracer      *Tracer
	instruments *instruments
	shape       *shape // nil if nothing is recorded
	ctx         context.Context
	span        trace.Span
	start       time.Time
	ended       atomic.Bool

	size  int       // of the header block
	set   int       // how many headers were injected
	value [1]string // of the first of them, in most cases the only one
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
	tracer := t.tracer()
	p := t.propagation()
	s := &Send{tracer: t, instruments: t.instruments()}
	s.msg = nats.Msg{Subject: msg.Subject, Reply: msg.Reply, Data: msg.Data, Sub: msg.Sub}
	s.Msg = &s.msg

	header := survey(msg.Header, p.fields)
	s.size = header.size
	var link trace.Link
	if header.fields > 0 {
		link = t.Link(msg.Header, RelationshipKey.String("creation"), semconv.MessagingDestinationName(msg.Subject))
	}
	custom := link.SpanContext.IsValid()

	measured := s.instruments.enabled(ctx)
	if measured {
		s.start = time.Now()
	}
	if measured || !tracer.inert {
		s.shape = t.shape(&shapeKey{operation: opPublish, link: custom, template: t.templateOf(msg.Subject)})
	}
	if tracer.inert {
		s.ctx, s.span = tracer.startInert(ctx)
	} else {
		st := s.shape.starter()
		st.link[0] = link
		s.ctx, s.span = st.start(ctx, tracer, msg.Subject)
	}

	if custom {
		s.msg.Header = header.clone(msg.Header, nil)
	} else {
		s.msg.Header = header.clone(msg.Header, p.fields)
		p.Inject(s.ctx, (*injector)(s))
		s.fit(maxHeader - spareHeader)
	}
	t.flying.begin() // only now, for functions of the caller's may have panicked
	return s.ctx, s
}

// fitPayload keeps the message below the payload limit of nc, as far as tracing
// has made it longer.
func (s *Send) fitPayload(nc *nats.Conn) {
	if nc == nil {
		return
	}
	if limit := int(nc.MaxPayload()); limit > 0 {
		s.fit(limit - len(s.msg.Data) - spareHeader)
	}
}

// fit removes what was injected until the header block has at most limit bytes:
// first the baggage, which is the only long part, then everything. Losing a link
// is better than losing a message.
func (s *Send) fit(limit int) {
	if s.set == 0 || s.size <= limit {
		return
	}
	delete(s.msg.Header, baggageHeader)
	if s.size = headerSize(s.msg.Header); s.size > limit {
		s.withdraw()
	}
}

// withdraw removes everything that was injected.
func (s *Send) withdraw() {
	for _, f := range s.tracer.propagation().fields {
		delete(s.msg.Header, f)
	}
	s.set = 0
}

// End ends the span with the outcome of the publish: the stream, the sequence
// and whether the server took the message for a duplicate, or an error. A nil
// ack with a nil error ends it as a success of which nothing is known. Only the
// first call counts; End is safe for concurrent use. [Tracer.Shutdown] waits for
// it.
//
// An error is not always a failure: a publisher that loses a guard to its own
// earlier attempt may end the span with a nil error.
func (s *Send) End(ack *jetstream.PubAck, err error) {
	if s.ended.Swap(true) {
		return
	}
	if s.span.IsRecording() {
		s.record(ack, err)
	}
	s.end(errorType(err))
}

func (s *Send) end(class string) {
	if s.shape != nil {
		s.shape.took(s.ctx, s.instruments.operation, s.start, class)
		s.shape.count(s.ctx, s.instruments.sent, 1, class)
	}
	endSpan(s.span, class)
	s.tracer.flying.done()
}

// conclude is End for a publish that may panic. Like the function it ends with
// it is to be deferred itself.
func (s *Send) conclude(returned *bool, ack **jetstream.PubAck, err *error) {
	if *returned {
		s.End(*ack, *err)
		return
	}
	s.ended.Store(true)
	unreturned(s, s.span, recover())
}

// record says what is known of the message now. That includes its id, which a
// publish option may have put into the copy's header only lately.
func (s *Send) record(ack *jetstream.PubAck, err error) {
	attrs := make([]attribute.KeyValue, 0, 5)
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
	if s.tracer.bodySize {
		attrs = append(attrs, semconv.MessagingMessageBodySize(len(s.Msg.Data)))
	}
	if len(attrs) > 0 {
		s.span.SetAttributes(attrs...)
	}
}
