package tracing

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// noSpan replaces a span in a context.
var noSpan = trace.SpanFromContext(context.Background())

// Process runs handler within a process span and returns its error as it is.
//
// The span's parent is the span in ctx, if there is one, else it is the root of
// a new trace ([TopologyParent] changes that). In any case it links the span
// that produced the message, if the headers hold a valid context.
//
// The handler's context carries the span, and the message's baggage added to
// that of ctx: of two members with the same key a root span takes the message's,
// a child keeps that of ctx. See [Untrusted] for messages of strangers.
//
// The handler's message makes a settle span, child of the process span, of each
// Ack, DoubleAck, Nak, NakWithDelay, Term and TermWithReason, and an event of
// InProgress. They work as they do on msg, also after the handler has returned
// and in other goroutines. How the message was settled is recorded on the
// process span as messaging.nats.message.settlement (ack, nak, term), if that
// happens before the span ends. Process itself settles nothing.
//
// An error, a panic (which goes on) and runtime.Goexit end the span as failed.
func (t *Tracer) Process(ctx context.Context, msg jetstream.Msg, handler func(context.Context, jetstream.Msg) error, opts ...ProcessOption) (err error) {
	o := newProcessOptions(opts)
	tracer, instruments := t.tracer(), t.instruments()
	measured := instruments.enabled(ctx)
	p := &processing{work: work{tracer: t, instruments: instruments}}
	ctx, creation, ambient := p.arrive(ctx, msg.Headers(), &o)

	t.flying.begin()
	if tracer.inert && !measured {
		p.ctx, p.span = tracer.startInert(ctx)
	} else {
		p.begin(ctx, tracer, msg, &o, creation, ambient)
		if measured {
			p.start = time.Now()
			if !countedAlready(msg) {
				p.shape.count(p.ctx, instruments.consumed, 1, "")
			}
		}
		msg = &p.handed
	}

	returned := false
	defer conclude(&p.work, p.span, &returned, &err)
	err = handler(p.ctx, msg)
	returned = true
	return err
}

// work is a span in progress that processes messages.
type work struct {
	tracer      *Tracer
	instruments *instruments
	shape       *shape // nil if nothing is recorded
	ctx         context.Context
	span        trace.Span
	start       time.Time
}

func (w *work) end(class string) {
	if w.shape != nil {
		w.shape.took(w.ctx, w.instruments.process, w.start, class)
	}
	endSpan(w.span, class)
	w.tracer.flying.done()
}

// processing is all that one message needs, in one piece of memory.
type processing struct {
	work
	header reading
	handed delivery // the handler's message
}

// begin starts the span.
func (p *processing) begin(ctx context.Context, tracer *tracerOf, msg jetstream.Msg, o *processOptions, creation, ambient trace.SpanContext) {
	t := p.tracer
	// Messages that are not JetStream's have no metadata; they are processed
	// all the same.
	md, _ := msg.Metadata()
	key := shapeKey{operation: opProcess, template: t.templateOf(msg.Subject()), destination: o.destination}
	o.consumer(&key, md)
	p.shape = t.shape(&key)

	var link trace.Link
	if creation.IsValid() {
		link = o.link(creation, msg, &p.header)
	}
	var more []trace.SpanStartOption
	if len(o.attributes) > 0 {
		more = append(more, trace.WithAttributes(o.attributes...))
	}
	if ambient.IsValid() {
		more = append(more, trace.WithLinks(trace.Link{SpanContext: ambient}))
	}
	p.ctx, p.span = p.shape.start(ctx, tracer, msg.Subject(), link, more...)
	if p.span.IsRecording() {
		t.describeMessage(p.span, p.header.id, msg, md)
	}
	p.handed = delivery{Msg: msg, work: &p.work, key: p.shape.key}
}

// arrive returns the context to start the process span in, the context the
// message was created in, and the ambient context if it is not the parent.
func (p *processing) arrive(ctx context.Context, h nats.Header, o *processOptions) (_ context.Context, creation, ambient trace.SpanContext) {
	t, r := p.tracer, &p.header
	propagator := t.propagation()
	if o.untrusted {
		return ctx, propagator.spanContext(h, r), ambient
	}

	r.read(h, propagator)
	// Extract leaves a context alone when the carrier has nothing, so the
	// ambient span must be out of the way to tell the two apart.
	span, own := trace.SpanFromContext(ctx), baggage.FromContext(ctx)
	hasAmbient := span.SpanContext().IsValid()
	if hasAmbient {
		ctx = trace.ContextWithSpan(ctx, noSpan)
	}
	from := ctx
	ctx = propagator.Extract(ctx, r)
	creation = trace.SpanContextFromContext(ctx)
	if !hasAmbient && !t.topologyParent && r.verbatim && len(r.baggage) == 0 {
		// A root span, and nothing was extracted but what it links.
		return from, creation, ambient
	}
	if own.Len() > 0 {
		if theirs := baggage.FromContext(ctx); hasAmbient {
			ctx = withBaggage(ctx, own, theirs)
		} else {
			ctx = withBaggage(ctx, theirs, own)
		}
	}
	switch {
	case t.topologyParent && creation.IsValid():
		return ctx, creation, span.SpanContext()
	case hasAmbient:
		return trace.ContextWithSpan(ctx, span), creation, ambient
	case creation.IsValid():
		return trace.ContextWithSpan(ctx, noSpan), creation, ambient
	default:
		return ctx, creation, ambient
	}
}

// consumer fills in what the metadata tell of the consumer.
func (o *processOptions) consumer(key *shapeKey, md *jetstream.MsgMetadata) {
	if md == nil {
		return
	}
	key.stream = md.Stream
	if !o.ephemeral {
		key.group = md.Consumer
	}
}

// link returns the link to the span that produced msg, whose header was read.
func (o *processOptions) link(sc trace.SpanContext, msg jetstream.Msg, r *reading) trace.Link {
	var more []attribute.KeyValue
	if o.linkAttributes != nil {
		more = o.linkAttributes(msg)
	}
	n := 2 + len(more)
	if o.untrusted {
		n++
	}
	attrs := append(linkAttributes(sc, r, n),
		RelationshipKey.String(cmp.Or(o.relationship, "triggered_by")),
		semconv.MessagingDestinationName(msg.Subject()))
	if o.untrusted {
		attrs = append(attrs, linkUntrustedKey.Bool(true))
	}
	return trace.Link{SpanContext: sc, Attributes: append(attrs, more...)}
}
