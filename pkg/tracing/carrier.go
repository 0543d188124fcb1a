package tracing

import (
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
)

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
	// Servers before 2.14 rename traceparent in the messages that they trace
	// themselves (account setting msg_trace).
	renamedTraceparent = "Xraceparent"
)

// HeaderCarrier lets propagators read and write the headers of a message.
//
// NATS headers are case-sensitive, but clients differ in case: a key is looked up
// as it is, then regardless of case, then, for traceparent, under the name
// Xraceparent that servers before 2.14 gave it. A header whose first value is
// missing or empty counts as absent. Methods never panic; nil is an empty header.
type HeaderCarrier nats.Header

var _ propagation.ValuesGetter = HeaderCarrier(nil)

// Get returns the first value of key, or "". For tracestate it returns all
// values as one list, as W3C Trace Context defines it.
func (c HeaderCarrier) Get(key string) string { return joined(key, c.Values(key)) }

func joined(key string, vs []string) string {
	switch {
	case len(vs) == 0:
		return ""
	case len(vs) > 1 && key == tracestate:
		return strings.Join(vs, ",")
	default:
		return vs[0]
	}
}

// Values returns all values of key, in order, or nil. Do not change the result.
func (c HeaderCarrier) Values(key string) []string {
	if vs := c[key]; present(vs) {
		return vs
	}
	// Of several spellings the alphabetically first counts, because the order of
	// a map is random.
	var found string
	for k, vs := range c {
		if len(k) == len(key) && strings.EqualFold(k, key) && present(vs) && (found == "" || k < found) {
			found = k
		}
	}
	if found != "" {
		return c[found]
	}
	if vs := c[renamedTraceparent]; key == traceparent && present(vs) {
		return vs
	}
	return nil
}

func present(values []string) bool { return len(values) > 0 && values[0] != "" }

// Set replaces the values of key. It does nothing on a nil header, and nothing
// for a key that nats.go refuses to publish.
func (c HeaderCarrier) Set(key, value string) {
	if c != nil && validKey(key) {
		c[key] = []string{value}
	}
}

// validKey reports whether key is a token of RFC 9110, as nats.go demands.
func validKey(key string) bool {
	for i := range len(key) {
		if b := key[i]; (b < 'a' || b > 'z') && b != '-' && (b <= ' ' || b > '~' || strings.IndexByte("\"(),/:;<=>?@[\\]{}", b) >= 0) {
			return false
		}
	}
	return key != ""
}

// Keys returns all keys, in no order.
func (c HeaderCarrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// verbatim spares the search of a HeaderCarrier.
type verbatim struct{ HeaderCarrier }

func (c verbatim) Get(key string) string { return joined(key, c.Values(key)) }
func (c verbatim) Values(key string) []string {
	if vs := c.HeaderCarrier[key]; present(vs) {
		return vs
	}
	return nil
}

// carrier returns the carrier from which the propagator reads h: most messages have its
// headers as it writes them.
func (t *Tracer) carrier(h nats.Header) propagation.TextMapCarrier {
	f := t.propagatorFields()
	for k := range h {
		if isField(k, f.written) && !slices.Contains(f.written, k) || len(f.read) > 0 && isField(k, f.read) && !slices.Contains(f.read, k) {
			return HeaderCarrier(h)
		}
	}
	return verbatim{HeaderCarrier(h)}
}
