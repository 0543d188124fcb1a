package tracing

import (
	"cmp"
	"context"
	"time"

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
	ctx, creation, ambient := t.arrive(ctx, msg, &o)

	t.flying.begin()
	var w *work
	if tracer.inert && !measured {
		w = &work{tracer: t, instruments: instruments}
		w.ctx, w.span = tracer.startInert(ctx)
	} else {
		p := &processing{work: work{tracer: t, instruments: instruments}}
		p.begin(ctx, tracer, msg, &o, creation, ambient)
		if measured {
			p.start = time.Now()
			if !countedAlready(msg) {
				p.shape.count(p.ctx, instruments.consumed, 1, "")
			}
		}
		w, msg = &p.work, &p.handed
	}

	returned := false
	defer conclude(w, w.span, &returned, &err)
	err = handler(w.ctx, msg)
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

	id := messageID(msg.Headers())
	var link trace.Link
	if creation.IsValid() {
		link = o.link(creation, msg, id)
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
		t.describeMessage(p.span, id, msg, md)
	}
	p.handed = delivery{Msg: msg, work: &p.work, key: p.shape.key}
}

// arrive returns the context to start the process span in, the context the
// message was created in, and the ambient context if it is not the parent.
func (t *Tracer) arrive(ctx context.Context, msg jetstream.Msg, o *processOptions) (_ context.Context, creation, ambient trace.SpanContext) {
	p := t.propagation()
	carrier := carrierOf(msg.Headers(), p.fields)
	if o.untrusted {
		return ctx, trace.SpanContextFromContext(p.Extract(context.Background(), carrier)), ambient
	}

	// Extract leaves a context alone when the carrier has nothing, so the
	// ambient span must be out of the way to tell the two apart.
	span, own := trace.SpanFromContext(ctx), baggage.FromContext(ctx)
	hasAmbient := span.SpanContext().IsValid()
	if hasAmbient {
		ctx = trace.ContextWithSpan(ctx, noSpan)
	}
	from := ctx
	ctx = p.Extract(ctx, carrier)
	creation = trace.SpanContextFromContext(ctx)
	_, asSpelled := carrier.(verbatim)
	if p.onlyW3C && !hasAmbient && !t.topologyParent && asSpelled && len(msg.Headers()[baggageHeader]) == 0 {
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

// link returns the link to the span that produced msg.
func (o *processOptions) link(sc trace.SpanContext, msg jetstream.Msg, id string) trace.Link {
	attrs := [3]attribute.KeyValue{
		RelationshipKey.String(cmp.Or(o.relationship, "triggered_by")),
		semconv.MessagingDestinationName(msg.Subject()),
		linkUntrustedKey.Bool(true),
	}
	more := attrs[:2]
	if o.untrusted {
		more = attrs[:]
	}
	var last []attribute.KeyValue
	if o.linkAttributes != nil {
		last = o.linkAttributes(msg)
	}
	return newLink(sc, msg.Headers(), id, more, last)
}
