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
	var o processOptions
	o.apply(opts)
	tracer, instruments := t.tracer(), t.instruments()
	measured := instruments.enabled(ctx)
	a := &arrival{processing: processing{work: work{tracer: t, instruments: instruments}}}
	p := &a.processing
	if tracer.inert && !measured {
		var creation trace.SpanContext
		p.ctx, p.span = tracer.startInert(a.read(ctx, msg.Headers(), &o, &creation))
	} else {
		p = a.begin(ctx, tracer, msg, &o)
		if measured {
			p.start = time.Now()
			if !countedAlready(msg) {
				p.shape.count(p.ctx, instruments.consumed, 1, "")
			}
		}
		msg = &p.handed
	}

	t.flying.begin() // only now, for functions of the caller's may have panicked
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

// processing is what one message needs until nobody knows it any more.
type processing struct {
	work
	handed delivery // the handler's message
}

// arrival is all that one message needs, in one piece of memory.
type arrival struct {
	header reading
	link   [linkSize]attribute.KeyValue // room for them
	processing
}

// begin starts the span.
func (a *arrival) begin(ctx context.Context, tracer *tracerOf, msg jetstream.Msg, o *processOptions) *processing {
	t, p := a.tracer, &a.processing
	// Messages that are not JetStream's have no metadata; they are processed
	// all the same.
	md, _ := msg.Metadata()
	var key shapeKey
	key.operation, key.template, key.destination = opProcess, t.templateOf(msg.Subject()), o.destination
	o.consumer(&key, md)
	p.shape = t.shape(&key)

	st := p.shape.starter()
	link := &st.link[0]
	parent := a.read(ctx, msg.Headers(), o, &link.SpanContext)
	if link.SpanContext.IsValid() {
		link.Attributes = o.appendLink(a.link[:0], &link.SpanContext, msg, &a.header)
	}
	var more []trace.SpanStartOption
	if len(o.attributes) > 0 {
		more = append(more, trace.WithAttributes(o.attributes...))
	}
	if t.topologyParent {
		// The span in ctx may have had to leave its place to the producer's.
		if ambient := trace.SpanContextFromContext(ctx); ambient.IsValid() && !ambient.Equal(trace.SpanContextFromContext(parent)) {
			more = append(more, trace.WithLinks(trace.Link{SpanContext: ambient}))
		}
	}
	p.ctx, p.span = st.start(parent, tracer, msg.Subject(), more...)
	if p.span.IsRecording() {
		t.describeMessage(p.span, a.header.id, msg, md)
		// The span keeps the attributes of its link until it is exported. It must
		// not keep the message with them.
		p = &processing{work: a.work}
		a.header, a.processing = reading{}, processing{}
	}
	p.handed.work, p.handed.key = &p.work, p.shape.key
	p.handed.of(msg)
	return p
}

// read returns the context to start the process span in, and sets creation to
// the one that the message was created in.
func (a *arrival) read(ctx context.Context, h nats.Header, o *processOptions, creation *trace.SpanContext) context.Context {
	t, r := a.tracer, &a.header
	propagator := t.propagation()
	if o.untrusted {
		*creation = propagator.spanContext(h, r)
		return ctx
	}

	r.read(h, propagator)
	// Extract leaves a context alone when the carrier has nothing, so the
	// ambient span must be out of the way to tell the two apart.
	span, own := trace.SpanFromContext(ctx), baggage.FromContext(ctx)
	hasAmbient := span != noSpan && span.SpanContext().IsValid()
	if hasAmbient {
		ctx = trace.ContextWithSpan(ctx, noSpan)
	}
	from := ctx
	ctx = propagator.Extract(ctx, r)
	*creation = trace.SpanContextFromContext(ctx)
	if !hasAmbient && !t.topologyParent && r.verbatim && len(r.baggage) == 0 {
		// A root span, and nothing was extracted but what it links.
		return from
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
		return ctx
	case hasAmbient:
		return trace.ContextWithSpan(ctx, span)
	case creation.IsValid():
		return trace.ContextWithSpan(ctx, noSpan)
	default:
		return ctx
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

// appendLink appends the attributes of the link to sc, the context that msg was
// created in.
func (o *processOptions) appendLink(attrs []attribute.KeyValue, sc *trace.SpanContext, msg jetstream.Msg, r *reading) []attribute.KeyValue {
	attrs = append(r.appendLink(attrs, sc),
		RelationshipKey.String(cmp.Or(o.relationship, "triggered_by")),
		semconv.MessagingDestinationName(msg.Subject()))
	if o.untrusted {
		attrs = append(attrs, linkUntrustedKey.Bool(true))
	}
	if o.linkAttributes != nil {
		attrs = append(attrs, o.linkAttributes(msg)...)
	}
	return attrs
}
