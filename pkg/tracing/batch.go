package tracing

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// ProcessBatch runs handler within one process span for all of msgs and returns
// its error as it is. The span links the producer of every message that has a
// valid context; none is left out, however large the batch, provided that the
// SDK's limit allows it (by default it keeps 128 links, package setup lifts
// that).
//
// The span's parent is the span in ctx, if there is one, else it is the root of
// a new trace. The messages' baggage does not reach the handler, for it would
// not be known whose; [LinkAttributes] puts onto the links what tells one
// message from another. For the rest ProcessBatch does as [Tracer.Process]; the
// consumer and the stream are taken from the first message. The settlements are
// recorded as numbers: messaging.nats.batch.acks, .naks, .terms, where not zero.
//
// For an empty batch handler runs without a span.
func (t *Tracer) ProcessBatch(ctx context.Context, msgs []jetstream.Msg, handler func(context.Context, []jetstream.Msg) error, opts ...ProcessOption) (err error) {
	if len(msgs) == 0 {
		return handler(ctx, msgs)
	}
	var o processOptions
	o.apply(opts)
	key := shapeKey{operation: opProcess, destination: o.destination}
	md, _ := msgs[0].Metadata()
	o.consumer(&key, md)
	w := &work{tracer: t, instruments: t.instruments(), shape: t.shape(&key)}
	tally := &tally{}
	deliveries := make([]delivery, len(msgs))
	wrapped := make([]jetstream.Msg, len(msgs))
	k := &key
	for i, msg := range msgs {
		if template := t.templateOf(msg.Subject()); template != k.template {
			other := key
			other.template = template
			k = &other
		}
		d := &deliveries[i]
		d.work, d.key, d.tally = w, k, tally
		d.of(msg)
		wrapped[i] = d
	}
	w.ctx, w.span = t.startBatch(ctx, w.shape, key.stream, msgs, &o)
	tally.span = w.span
	if w.instruments.enabled(ctx) {
		w.start = time.Now()
		w.shape.count(w.ctx, w.instruments.consumed, uncounted(msgs), "")
	}

	t.flying.begin() // only now, for functions of the caller's may have panicked
	returned := false
	defer conclude(w, w.span, &returned, &err)
	err = handler(w.ctx, wrapped)
	returned = true
	return err
}

// startBatch starts the span of several messages.
func (t *Tracer) startBatch(ctx context.Context, sh *shape, stream string, msgs []jetstream.Msg, o *processOptions, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	opts = append(opts, trace.WithAttributes(o.attributes...), trace.WithLinks(t.links(msgs, o)...))
	ctx, span := sh.starter().start(ctx, t.tracer(), commonSubject(msgs), opts...)
	if span.IsRecording() {
		span.SetAttributes(semconv.MessagingBatchMessageCount(len(msgs)))
		if stream != "" {
			span.SetAttributes(streamKey.String(stream))
		}
	}
	return ctx, span
}

// links returns a link for each message with a valid context.
func (t *Tracer) links(msgs []jetstream.Msg, o *processOptions) []trace.Link {
	p := t.propagation()
	links := make([]trace.Link, 0, len(msgs))
	var r reading
	for _, msg := range msgs {
		if sc := p.spanContext(msg.Headers(), &r); sc.IsValid() {
			attrs := make([]attribute.KeyValue, 0, linkSize)
			links = append(links, trace.Link{SpanContext: sc, Attributes: o.appendLink(attrs, &sc, msg, &r)})
		}
	}
	return links
}

// commonSubject returns the subject of all messages, or "" if they differ: the
// conventions want messaging.destination.name on a batch only if it is true of
// every message in it.
func commonSubject(msgs []jetstream.Msg) string {
	if len(msgs) == 0 {
		return ""
	}
	subject := msgs[0].Subject()
	for _, msg := range msgs[1:] {
		if msg.Subject() != subject {
			return ""
		}
	}
	return subject
}
