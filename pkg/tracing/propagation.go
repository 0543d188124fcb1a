package tracing

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxHeader is the size of the longest header block that JetStream stores.
	maxHeader = math.MaxUint16
	// spareHeader is kept free for the headers that publish options add later.
	spareHeader = 1024
	// W3C Baggage lets a receiver drop baggage with more than this.
	maxBaggageMembers, maxBaggageBytes = 64, 8192
)

// noSpan hides the span of a context.
var noSpan = trace.SpanFromContext(context.Background())

// propagatorFields are the headers that the propagator says it writes, and those that it
// only looks for in an empty header: B3 has two forms.
type propagatorFields struct {
	propagation.MapCarrier // is empty
	written, read          []string
}

func (f *propagatorFields) Get(key string) string {
	if !isField(key, f.written) && !isField(key, f.read) {
		f.read = append(f.read, key)
	}
	return ""
}

func (t *Tracer) propagatorFields() *propagatorFields {
	if fields := t.fields.Load(); fields != nil {
		return fields
	}
	fields := &propagatorFields{written: t.propagator.Fields()}
	t.propagator.Extract(context.Background(), fields)
	if len(fields.written) > 0 { // the global propagator has none before the program sets it
		t.fields.Store(fields)
	}
	return fields
}

// hasField reports whether a header of the propagator is in h, of which without is the copy
// without those that it writes.
func (f *propagatorFields) hasField(h, without nats.Header) bool {
	if len(without) < len(h) {
		return true
	}
	if len(f.read) > 0 {
		for k := range h {
			if isField(k, f.read) {
				return true
			}
		}
	}
	return false
}

// isField reports whether HeaderCarrier returns header k for one of fields.
func isField(k string, fields []string) bool {
	for _, f := range fields {
		if len(k) == len(f) && strings.EqualFold(k, f) || k == renamedTraceparent && f == traceparent {
			return true
		}
	}
	return false
}

// creation returns the context in which the message with this header was created.
func (t *Tracer) creation(h nats.Header) trace.SpanContext {
	return trace.SpanContextFromContext(t.propagator.Extract(context.Background(), withoutBaggage{HeaderCarrier(h)}))
}

// withoutBaggage hides the baggage, because parsing it takes longer than all the rest.
type withoutBaggage struct{ HeaderCarrier }

func (c withoutBaggage) Get(key string) string {
	if isBaggage(key) {
		return ""
	}
	return c.HeaderCarrier.Get(key)
}

func (c withoutBaggage) Values(key string) []string {
	if isBaggage(key) {
		return nil
	}
	return c.HeaderCarrier.Values(key)
}

// extract returns the context in which a process span starts, and the creation
// context of the message.
func (t *Tracer) extract(ctx context.Context, h nats.Header, untrusted, asParent bool) (context.Context, trace.SpanContext) {
	if len(h) == 0 {
		return ctx, trace.SpanContext{}
	}
	if untrusted {
		return ctx, t.creation(h)
	}
	ambient, own := trace.SpanFromContext(ctx), baggage.FromContext(ctx)
	isRoot := !ambient.SpanContext().IsValid()
	if !isRoot { // Extract keeps it if the header has none
		ctx = trace.ContextWithSpan(ctx, noSpan)
	}
	ctx = t.propagator.Extract(ctx, t.carrier(h))
	creation := trace.SpanContextFromContext(ctx)
	if own.Len() > 0 {
		if theirs := baggage.FromContext(ctx); isRoot {
			ctx = withBaggage(ctx, theirs, own)
		} else {
			ctx = withBaggage(ctx, own, theirs)
		}
	}
	switch {
	case creation.IsValid() && (asParent || t.disabled && isRoot):
		// With the SDK disabled, the handler's messages pass the context on.
	case !isRoot:
		ctx = trace.ContextWithSpan(ctx, ambient)
	case creation.IsValid():
		ctx = trace.ContextWithSpan(ctx, noSpan)
	}
	return ctx, creation
}

// withBaggage returns ctx with the members of both; of two with the same key it
// takes the strong one. It leaves out weak members beyond the limits.
func withBaggage(ctx context.Context, strong, weak baggage.Baggage) context.Context {
	union, size := strong, len(strong.String())
	for _, m := range weak.Members() {
		size += len(m.String()) + len(",")
		if union.Len() >= maxBaggageMembers || size > maxBaggageBytes {
			break
		}
		if strong.Member(m.Key()).Key() == "" {
			if b, err := union.SetMember(m); err == nil {
				union = b
			}
		}
	}
	return baggage.ContextWithBaggage(ctx, union)
}

// outgoing is the copy of a message to publish. It is the carrier into which the
// propagator writes.
type outgoing struct {
	nats.Msg
	size int // of the header on the wire, or a little more
}

// copyHeader copies h without fields, an empty one as nil. The copy shares values with h, but no method
// of a header can change h through it.
func (o *outgoing) copyHeader(h nats.Header, fields []string) {
	o.Header, o.size = nil, len("NATS/1.0\r\n\r\n")
	if len(h) > 0 {
		o.Header = maps.Clone(h)
	}
	for k, vs := range o.Header {
		if isField(k, fields) {
			delete(o.Header, k)
			continue
		}
		o.grow(k, vs...)
		if cap(vs) > len(vs) {
			o.Header[k] = slices.Clip(vs)
		}
	}
}

func (o *outgoing) grow(key string, values ...string) {
	for _, v := range values {
		o.size += len(key) + len(": ") + len(v) + len("\r\n")
	}
}

// inject writes the context of ctx into the copy of h, as far as that stays below limit:
// all of it, all but the baggage, or nothing. It never leaves out a header of the
// caller's.
func (o *outgoing) inject(ctx context.Context, t *Tracer, h nats.Header, limit int) {
	t.propagator.Inject(ctx, o)
	if o.size <= limit {
		return
	}
	// The caller's own baggage stays, as nothing replaces it.
	o.copyHeader(h, slices.DeleteFunc(slices.Clone(t.propagatorFields().written), isBaggage))
	t.propagator.Inject(baggage.ContextWithoutBaggage(ctx), o)
	if o.size > limit {
		o.copyHeader(h, nil)
	}
}

func (o *outgoing) Get(key string) string { return HeaderCarrier(o.Header).Get(key) }
func (o *outgoing) Keys() []string        { return HeaderCarrier(o.Header).Keys() }
func (o *outgoing) Set(key, value string) {
	if o.Header == nil {
		o.Header = make(nats.Header, 1)
	}
	HeaderCarrier(o.Header).Set(key, value)
	o.grow(key, value)
}

// isBaggage reports whether a propagator writes baggage into header k: W3C's
// writes baggage, OpenTracing's writes ot-baggage-<key>.
func isBaggage(k string) bool { return strings.Contains(strings.ToLower(k), "baggage") }
