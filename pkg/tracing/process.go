package tracing

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

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
func (t *Tracer) Process(ctx context.Context, msg jetstream.Msg, handler func(context.Context, jetstream.Msg) error, opts ...ProcessOption) error {
	c := newProcessConfig(opts)
	if t.filter != nil && t.filtered(msg.Subject(), headersOf(msg)) {
		return handler(ctx, msg)
	}
	if t.off(ctx) {
		ctx, _ = t.extract(ctx, headersOf(msg), c.untrusted, t.topologyParent)
		t.inFlight.Add(1)
		defer t.inFlight.Add(-1)
		return handler(ctx, msg)
	}
	p := &processing{operation: operation{tracer: t, name: opProcess}}
	p.deliveries = []delivery{{Msg: msg, message: t.read(msg), process: p}}
	p.startMessage(ctx, false, &c)
	return p.run(func() error { return handler(p.ctx, &p.deliveries[0]) })
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
// would not know which message it belongs to; [WithLinkAttributes] describes
// each message. The stream is that of the first message. Settlements are
// recorded as numbers: messaging.nats.batch.acks, .naks, .terms, if not zero.
// Otherwise it works like [Tracer.Process].
//
// For an empty batch handler is called without a span.
func (t *Tracer) ProcessBatch(ctx context.Context, msgs []jetstream.Msg, handler func(context.Context, []jetstream.Msg) error, opts ...ProcessOption) error {
	if len(msgs) == 0 || t.off(ctx) {
		return handler(ctx, msgs)
	}
	c := newProcessConfig(opts)
	p := &processing{operation: operation{tracer: t, name: opProcess}, settled: map[string]int{}}
	p.deliveries = t.readAll(msgs)
	p.startBatch(ctx, consumer, p.deliveries, true, &c)
	wrapped := make([]jetstream.Msg, len(msgs))
	for i := range p.deliveries {
		p.deliveries[i].process = p
		wrapped[i] = &p.deliveries[i]
	}
	return p.run(func() error { return handler(p.ctx, wrapped) })
}

// processing is a process span in progress, with the messages of its handler.
type processing struct {
	operation
	deliveries []delivery
	mu         sync.Mutex
	settled    map[string]int // of a batch, by operation; nil for one message
}

// run calls the caller's handler, and ends the span.
func (p *processing) run(handler func() error) error {
	p.count(p.tracer.metrics.consumed, p.uncounted(p.deliveries), "")
	p.tracer.inFlight.Add(1) // last, because functions of the caller may have panicked
	return p.do(handler, func(class string) {
		p.finish(class)
		for i := range p.deliveries {
			if d := &p.deliveries[i]; d.counted {
				p.tracer.counted.Delete(d.reply)
			}
		}
		p.tracer.inFlight.Add(-1)
	})
}

// record records a settlement. The SDK ignores it if the span has ended.
func (p *processing) record(settlement string) {
	if p.settled == nil {
		p.span.SetAttributes(settlementKey.String(settlement))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock() // after the span has the count, else an older one could come last
	p.settled[settlement]++
	p.span.SetAttributes(attribute.Int("messaging.nats.batch."+settlement+"s", p.settled[settlement]))
}

// uncounted returns how many messages are to be counted: those that neither Receive nor
// an outer Process has counted. It remembers them as long as the program handles them,
// because the caller may have wrapped them.
func (o *operation) uncounted(deliveries []delivery) (n int) {
	if o.start.IsZero() {
		return 0 // nothing is counted
	}
	for i := range deliveries {
		d := &deliveries[i]
		if d.reply == "" {
			n++
		} else if _, known := o.tracer.counted.LoadOrStore(d.reply, nil); !known {
			d.counted = true
			n++
		}
	}
	return n
}

// startMessage starts the span that handles one message. The span is a child of the
// producer's if child is set, else it links it.
func (p *processing) startMessage(ctx context.Context, child bool, c *processConfig) {
	t, d := p.tracer, &p.deliveries[0]
	p.subject, p.template, p.bounded, p.group = d.subject, d.template, c.destination, c.group
	child = child && !c.untrusted
	parent, creation := t.extract(ctx, d.header, c.untrusted, child || t.topologyParent)
	var links []trace.Link
	if creation.IsValid() && !child {
		links = append(links, c.link(creation, d, "triggered_by"))
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
	p.startSpan(parent, kind, links, attrs)
	p.describe(&d.message)
	if creation.IsValid() && !c.untrusted && !p.span.SpanContext().IsValid() {
		// Without an SDK, the handler's messages pass the context on.
		p.ctx = trace.ContextWithRemoteSpanContext(p.ctx, creation)
	}
}

// startBatch starts the span of several messages, or of one that was received alone.
func (o *operation) startBatch(ctx context.Context, kind trace.SpanStartOption, deliveries []delivery, batch bool, c *processConfig, opts ...trace.SpanStartOption) {
	relationship := "triggered_by"
	if o.name == opReceive {
		relationship = "received"
	}
	links := make([]trace.Link, 0, len(deliveries))
	var unlinked [][]attribute.KeyValue
	for i := range deliveries {
		d := &deliveries[i]
		link := c.link(o.tracer.creation(d.header), d, relationship)
		if link.SpanContext.IsValid() {
			links = append(links, link)
		} else if c.linkAttributes != nil {
			unlinked = append(unlinked, link.Attributes[1:]) // without the trace id
		}
		// What differs between the messages is left out.
		if i == 0 || d.subject == o.subject {
			o.subject = d.subject
		} else {
			o.subject = ""
		}
		if i == 0 || d.template == o.template {
			o.template = d.template
		} else {
			o.template = ""
		}
	}
	o.bounded, o.group = c.destination, c.group
	o.startSpan(ctx, kind, links, c.attributes, opts...)
	if !batch && len(deliveries) == 1 {
		o.describe(&deliveries[0].message)
	}
	if batch && o.span.IsRecording() {
		o.span.SetAttributes(semconv.MessagingBatchMessageCount(len(deliveries)))
		if md := deliveries[0].md; md != nil {
			o.span.SetAttributes(streamKey.String(md.Stream))
		}
	}
	for _, attrs := range unlinked {
		o.span.AddEvent("messaging.nats.message_without_context", trace.WithAttributes(attrs...))
	}
}
