package tracing

import (
	"context"
	"math"
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/baggage"
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

// propagatorFields returns the headers that the propagator says it reads.
func (t *Tracer) propagatorFields() []string {
	if fields := t.fields.Load(); fields != nil {
		return *fields
	}
	fields := t.propagator.Fields()
	if len(fields) > 0 { // the global propagator has none before the program sets it
		t.fields.Store(&fields)
	}
	return fields
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
	return trace.SpanContextFromContext(t.propagator.Extract(context.Background(), HeaderCarrier(h)))
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
	ctx = t.propagator.Extract(ctx, HeaderCarrier(h))
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

// copyHeader returns a copy of h without fields. The copy shares values with h,
// but no method of a header can change h through it.
func copyHeader(h nats.Header, fields []string) nats.Header {
	if len(h) == 0 {
		return nil
	}
	clone := make(nats.Header, len(h)+1)
	for k, vs := range h {
		if len(fields) == 0 || !isField(k, fields) {
			clone[k] = vs[:len(vs):len(vs)]
		}
	}
	return clone
}

// headerSize returns the length of h on the wire.
func headerSize(h nats.Header) int {
	size := len("NATS/1.0\r\n\r\n")
	for k, vs := range h {
		for _, v := range vs {
			size += len(k) + len(": ") + len(v) + len("\r\n")
		}
	}
	return size
}

// injector is the carrier for the copy of a message.
type injector nats.Msg

func (c *injector) Get(key string) string { return HeaderCarrier(c.Header).Get(key) }
func (c *injector) Keys() []string        { return HeaderCarrier(c.Header).Keys() }
func (c *injector) Set(key, value string) {
	if c.Header == nil {
		c.Header = make(nats.Header, 1)
	}
	HeaderCarrier(c.Header).Set(key, value)
}

// inject writes the context of ctx into copied, a copy of msg, as far as the
// header stays below limit: all of it, all but the baggage, or nothing. It never
// leaves out a header of the caller's.
func (t *Tracer) inject(ctx context.Context, msg, copied *nats.Msg, limit int) {
	t.propagator.Inject(ctx, (*injector)(copied))
	if headerSize(copied.Header) <= limit {
		return
	}
	for k := range copied.Header {
		if isBaggage(k) {
			delete(copied.Header, k)
		}
	}
	for k, vs := range msg.Header {
		if isBaggage(k) {
			copied.Header[k] = vs[:len(vs):len(vs)]
		}
	}
	if headerSize(copied.Header) > limit {
		copied.Header = copyHeader(msg.Header, nil)
	}
}

// isBaggage reports whether a propagator writes baggage into header k: W3C's
// writes baggage, OpenTracing's writes ot-baggage-<key>.
func isBaggage(k string) bool { return strings.Contains(strings.ToLower(k), "baggage") }
