package tracing

import (
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// reading is the carrier to extract a context from, together with what else
// tracing wants to know of a header. One look at the header finds all of it; to
// look up every name costs several times as much.
type reading struct {
	header      nats.Header
	traceparent string
	tracestate  string
	baggage     []string
	id          string // the producer's id of the message
	eventType   string
	// verbatim says that W3C's headers are spelled as they should be, and that the
	// propagator asks for no others.
	verbatim bool
}

var _ propagation.ValuesGetter = (*reading)(nil)

var w3cFields = []string{traceparent, tracestate, baggageHeader}

// read looks at h, in place of any other header, for p to extract from.
func (r *reading) read(h nats.Header, p *propagatorOf) {
	*r = reading{header: h, verbatim: p.onlyW3C}
	for k, vs := range h {
		if !present(vs) {
			continue
		}
		switch k {
		case traceparent:
			r.traceparent = vs[0]
		case tracestate:
			r.tracestate = vs[0]
		case baggageHeader:
			r.baggage = vs
		case ceID:
			r.id = vs[0]
		case jetstream.MsgIDHeader:
			if r.id == "" {
				r.id = vs[0]
			}
		case ceType:
			r.eventType = vs[0]
		default:
			r.verbatim = r.verbatim && !isField(k, w3cFields)
		}
	}
}

// Get returns what [HeaderCarrier.Get] returns.
func (r *reading) Get(key string) string {
	if r.verbatim {
		switch key {
		case traceparent:
			return r.traceparent
		case tracestate:
			return r.tracestate
		}
	}
	return HeaderCarrier(r.header).Get(key)
}

// Values returns what [HeaderCarrier.Values] returns.
func (r *reading) Values(key string) []string {
	if key == baggageHeader && r.verbatim {
		return r.baggage
	}
	return HeaderCarrier(r.header).Values(key)
}

// traceID returns the trace id of sc, which was extracted, in hex: as a part of
// the header where it is sure to stand there, so that nothing has to be made.
func (r *reading) traceID(sc *trace.SpanContext) string {
	if r.verbatim {
		const start = len("00-")
		return r.traceparent[start : start+2*len(trace.TraceID{})]
	}
	return sc.TraceID().String()
}

func (r *reading) Keys() []string        { return HeaderCarrier(r.header).Keys() }
func (r *reading) Set(key, value string) { HeaderCarrier(r.header).Set(key, value) }
