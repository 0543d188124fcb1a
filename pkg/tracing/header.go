package tracing

import (
	"context"
	"math"
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxHeader is the longest header block JetStream stores.
	maxHeader = math.MaxUint16
	// spareHeader is left for what publish options add after the context is
	// injected: a message id, expectations.
	spareHeader = 1024

	baggageHeader = "baggage"
)

// createdBy returns the context that a message to be published already carries.
func createdBy(p propagation.TextMapPropagator, fields []string, h nats.Header) trace.SpanContext {
	for k := range h {
		if isField(k, fields) {
			return trace.SpanContextFromContext(p.Extract(context.Background(), HeaderCarrier(h)))
		}
	}
	return trace.SpanContext{}
}

// isField reports whether a carrier would read header k as one of fields.
func isField(k string, fields []string) bool {
	for _, f := range fields {
		if len(k) == len(f) && strings.EqualFold(k, f) || k == renamedTraceparent && f == traceparent {
			return true
		}
	}
	return false
}

// cloneHeader returns a copy of h, with room for one more header, without those
// in fields. More room would cost every message a larger map, of which a
// traceparent alone, the usual case, needs none.
func cloneHeader(h nats.Header, fields []string) nats.Header {
	values := 0
	for _, vs := range h {
		values += len(vs)
	}
	clone := make(nats.Header, len(h)+1)
	all := make([]string, 0, values)
	for k, vs := range h {
		if isField(k, fields) {
			continue
		}
		n := len(all)
		all = append(all, vs...)
		clone[k] = all[n:len(all):len(all)]
	}
	return clone
}

// inject writes the context of ctx into h, as much of it as fits: losing a link
// is better than losing a message.
func inject(ctx context.Context, p propagation.TextMapPropagator, fields []string, h nats.Header) {
	p.Inject(ctx, HeaderCarrier(h))
	shrink(h, fields, maxHeader-spareHeader)
}

// shrink removes what inject added until the header block has at most limit
// bytes: first the baggage, which is the only long part, then everything.
func shrink(h nats.Header, fields []string, limit int) {
	if headerSize(h) <= limit {
		return
	}
	delete(h, baggageHeader)
	if headerSize(h) <= limit {
		return
	}
	for _, f := range fields {
		delete(h, f)
	}
}

// headerSize returns the length of h on the wire.
func headerSize(h nats.Header) int {
	n := len("NATS/1.0\r\n\r\n")
	for k, vs := range h {
		for _, v := range vs {
			n += len(k) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}
