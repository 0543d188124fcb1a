package tracing

import (
	"cmp"
	"context"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// processing is a process span in progress, with the message of its handler.
type processing struct {
	operation
	delivery delivery
	context  handlerContext
}

// Process calls handler in a process span and returns its error unchanged.
//
// The parent of the span is the span in ctx; without one, the span is the root
// of a new trace ([WithTopologyParent] changes that). It always links the span
// that produced the message, if the headers hold a valid context.
//
// The handler's context carries the span, and the baggage of ctx and of the
// message. Of two members with the same key a root span takes the message's, a
// child that of ctx.
//
// Each Ack, DoubleAck, Nak, NakWithDelay, Term and TermWithReason of the handler's
// message makes a settle span, a child of the process span; InProgress makes an
// event. They work as on msg, also after the handler has returned and in
// other goroutines. The process span records the settlement as
// messaging.nats.message.settlement if it happens before the span ends. Process
// itself does not settle the message.
//
// An error, a panic, which goes on, and runtime.Goexit end the span as failed.
func (t *Tracer) Process(ctx context.Context, msg jetstream.Msg, handler func(context.Context, jetstream.Msg) error, opts ...ProcessOption) (err error) {
	c := newProcessConfig(opts)
	if t.filter != nil && t.filtered(msg.Subject(), msg.Headers()) {
		return handler(ctx, msg)
	}
	if t.disabled && !t.metrics.enabled(ctx) {
		ctx, _ = t.extract(ctx, msg.Headers(), c.untrusted, t.topologyParent)
		t.inFlight.Add(1)
		defer t.inFlight.Add(-1)
		return handler(ctx, msg)
	}
	p := &processing{operation: operation{tracer: t, name: opProcess}}
	d := &p.delivery
	d.message, d.process = t.read(msg), &p.operation
	d.of(ctx, msg)
	p.startMessage(ctx, d, msg, false, &c)
	if d.outer == nil && !t.countedBefore(msg, d.md) {
		p.count(t.metrics.consumed, 1, "")
	}
	p.context = handlerContext{Context: p.ctx, one: d}

	t.inFlight.Add(1) // last, because functions of the caller may have panicked
	returned := false
	defer p.conclude(&returned, &err, p.finishProcess)
	err = handler(&p.context, d)
	returned = true
	return err
}

// startMessage starts the span that handles the message of d. msg is nil for a message of
// core NATS. The span is a child of the producer's if child is set, else it links it.
func (o *operation) startMessage(ctx context.Context, d *delivery, msg jetstream.Msg, child bool, c *processConfig) {
	t := o.tracer
	o.subject, o.group, o.template = d.subject, c.group, t.templateOf(d.subject)
	d.template, d.destination = o.template, c.destination
	if o.template == "" || fixedTokens(o.template) == "" {
		d.destination = cmp.Or(c.destination, d.stream())
	}
	child = child && !c.untrusted
	parent, creation := t.extract(ctx, d.header, c.untrusted, child || t.topologyParent)
	var links []trace.Link
	if creation.IsValid() && !child {
		c.relationship = cmp.Or(c.relationship, "triggered_by")
		links = append(links, c.link(creation, &d.message, msg))
	}
	if ambient := trace.SpanContextFromContext(ctx); t.topologyParent && ambient.IsValid() && !ambient.Equal(trace.SpanContextFromContext(parent)) {
		links = append(links, trace.Link{SpanContext: ambient}) // the producer took its place as parent
	}
	attrs := c.attributes
	if own := t.attributesOf(d.subject, d.header); own != nil {
		attrs = append(attrs[:len(attrs):len(attrs)], own...)
	}
	kind := consumer
	if child {
		kind = server
	}
	o.startSpan(parent, kind, d.destination, &d.message, links, attrs)
	if creation.IsValid() && !c.untrusted && !o.span.SpanContext().IsValid() {
		// Without an SDK, the handler's messages pass the context on.
		o.ctx = trace.ContextWithRemoteSpanContext(o.ctx, creation)
	}
}

func (o *operation) finishProcess(class string) {
	o.finish(class)
	o.tracer.inFlight.Add(-1)
}

// Handler returns a handler for [jetstream.Consumer.Consume] that calls
// [Tracer.Process] with a background context. The error of handler is on the
// span; nothing else happens with it.
func (t *Tracer) Handler(handler func(context.Context, jetstream.Msg) error, opts ...ProcessOption) jetstream.MessageHandler {
	return func(msg jetstream.Msg) { _ = t.Process(context.Background(), msg, handler, opts...) }
}

// ProcessBatch calls handler in one process span for all messages and returns its
// error unchanged. The span links the producer of every message that has a valid
// context. Raise the link limit of the SDK for batches of more than 128.
//
// The parent of the span is the span in ctx; without one, the span is the root of
// a new trace. The baggage of the messages does not reach the handler, because it
// would not know which message it belongs to; [WithLinkAttributes] tells the
// messages apart. The stream is that of the first message. Settlements are
// recorded as numbers: messaging.nats.batch.acks, .naks, .terms, if not zero.
// Otherwise it works like [Tracer.Process].
//
// For an empty batch handler is called without a span.
func (t *Tracer) ProcessBatch(ctx context.Context, msgs []jetstream.Msg, handler func(context.Context, []jetstream.Msg) error, opts ...ProcessOption) (err error) {
	if len(msgs) == 0 || t.disabled && !t.metrics.enabled(ctx) {
		return handler(ctx, msgs)
	}
	c := newProcessConfig(opts)
	c.relationship = cmp.Or(c.relationship, "triggered_by")
	o := &operation{tracer: t, name: opProcess, group: c.group}
	tally, uncounted := &tally{}, 0
	deliveries, wrapped := make([]delivery, len(msgs)), make([]jetstream.Msg, len(msgs))
	in := &handlerContext{many: make(map[deliveryID]*delivery, len(msgs))}
	for i, msg := range msgs {
		d := &deliveries[i]
		d.message, d.process, d.tally = t.read(msg), o, tally
		d.of(ctx, msg)
		d.template = t.templateOf(d.subject)
		if d.destination = c.destination; d.template == "" {
			d.destination = cmp.Or(c.destination, d.stream())
		}
		if d.md != nil {
			in.many[idOf(d.md)] = d
		}
		if d.outer == nil && !t.countedBefore(msg, d.md) {
			uncounted++
		}
		wrapped[i] = d
	}
	o.startBatch(ctx, msgs, func(i int) *message { return &deliveries[i].message }, &c)
	o.count(t.metrics.consumed, uncounted, "")
	in.Context = o.ctx

	t.inFlight.Add(1) // last, because functions of the caller may have panicked
	returned := false
	defer o.conclude(&returned, &err, o.finishProcess)
	err = handler(in, wrapped)
	returned = true
	return err
}

// startBatch starts the span of a batch.
func (o *operation) startBatch(ctx context.Context, msgs []jetstream.Msg, at func(int) *message, c *processConfig, opts ...trace.SpanStartOption) {
	links := make([]trace.Link, 0, len(msgs))
	var unlinked [][]attribute.KeyValue
	stream, same := "", true
	for i, msg := range msgs {
		m := at(i)
		link := c.link(o.tracer.creation(m.header), m, msg)
		if link.SpanContext.IsValid() {
			links = append(links, link)
		} else if c.linkAttributes != nil {
			unlinked = append(unlinked, link.Attributes[1:]) // without the trace id

		}
		if i == 0 {
			o.subject, stream = m.subject, m.stream()
		}
		same = same && m.subject == o.subject
	}
	if !same {
		o.subject = "" // of a batch it must be true of every message
	}
	kind := consumer
	if o.name == opReceive {
		kind = client
	}
	o.startSpan(ctx, kind, cmp.Or(c.destination, stream), nil, links, c.attributes, opts...)
	if !o.span.IsRecording() {
		return
	}
	o.span.SetAttributes(semconv.MessagingBatchMessageCount(len(msgs)))
	if stream != "" {
		o.span.SetAttributes(streamKey.String(stream))
	}
	for _, attrs := range unlinked {
		o.span.AddEvent("messaging.nats.message_without_context", trace.WithAttributes(attrs...))
	}
}
