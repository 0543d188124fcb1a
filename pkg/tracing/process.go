package tracing

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
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
	// Messages that are not JetStream's have no metadata; they are processed
	// all the same.
	md, _ := msg.Metadata()
	key := shapeKey{operation: opProcess, template: t.templateOf(msg.Subject()), destination: o.destination}
	if md != nil {
		key.stream = md.Stream
		if !o.ephemeral {
			key.group = md.Consumer
		}
	}
	sh := t.shape(key)

	ctx, creation, ambient := t.arrive(ctx, msg, o)
	start := make([]trace.SpanStartOption, 0, 4)
	start = append(start, sh.kind, trace.WithAttributes(sh.with(msg.Subject(), o.attributes)...))
	if creation.IsValid() {
		start = append(start, trace.WithLinks(o.link(creation, msg)))
	}
	if ambient.IsValid() {
		start = append(start, trace.WithLinks(trace.Link{SpanContext: ambient}))
	}
	ctx, span := t.tracer().Start(ctx, sh.name, start...)
	if span.IsRecording() {
		describeMessage(span, msg.Headers(), md)
	}

	returned := false
	defer conclude(span, &returned, &err)
	err = handler(ctx, &delivery{Msg: msg, tracer: t, ctx: ctx, span: span, key: key, outcome: settlement{span}})
	returned = true
	return err
}

// arrive returns the context to start the process span in, the context the
// message was created in, and the ambient context if it is not the parent.
func (t *Tracer) arrive(ctx context.Context, msg jetstream.Msg, o processOptions) (_ context.Context, creation, ambient trace.SpanContext) {
	p, _ := t.propagation()
	carrier := HeaderCarrier(msg.Headers())
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
	ctx = p.Extract(ctx, carrier)
	creation = trace.SpanContextFromContext(ctx)
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

// link returns the link to the span that produced msg.
func (o processOptions) link(sc trace.SpanContext, msg jetstream.Msg) trace.Link {
	l := newLink(sc, msg.Headers(), 3,
		RelationshipKey.String(o.relationship), semconv.MessagingDestinationName(msg.Subject()))
	if o.untrusted {
		l.Attributes = append(l.Attributes, linkUntrustedKey.Bool(true))
	}
	if o.linkAttributes != nil {
		l.Attributes = append(l.Attributes, o.linkAttributes(msg)...)
	}
	return l
}
