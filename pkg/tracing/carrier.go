package tracing

import (
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
)

// renamedTraceparent is what servers before 2.14 made of the traceparent header
// of a message they traced themselves (account setting msg_trace).
const renamedTraceparent = "Xraceparent"

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// HeaderCarrier lets propagators read and write the headers of a message.
//
// NATS headers are case-sensitive, other people's clients are not: a key is
// looked up as it is, then regardless of case, then, for traceparent, under the
// name that servers before 2.14 gave it when they traced the message. A header
// without a value, or whose first value is empty, counts as absent. No method
// panics, whatever the header holds; nil is an empty header.
type HeaderCarrier nats.Header

var (
	_ propagation.TextMapCarrier = HeaderCarrier(nil)
	_ propagation.ValuesGetter   = HeaderCarrier(nil)
)

// Get returns the first value of key, or "".
func (c HeaderCarrier) Get(key string) string {
	if vs := c.Values(key); len(vs) > 0 {
		return vs[0]
	}
	return ""
}

// Values returns all values of key, in order, or nil. Several baggage headers
// are one list, says W3C Baggage. The result is not to be changed.
func (c HeaderCarrier) Values(key string) []string {
	if vs := c[key]; present(vs) {
		return vs
	}
	// Of several spellings the alphabetically first counts, because a map's
	// order would make the choice a random one.
	var found string
	for k, vs := range c {
		if len(k) == len(key) && present(vs) && (found == "" || k < found) && strings.EqualFold(k, key) {
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
// for a key that a NATS header cannot hold: the client would refuse to publish
// the whole message.
func (c HeaderCarrier) Set(key, value string) {
	if c == nil || !validKey(key) {
		return
	}
	c[key] = []string{value}
}

// validKey reports whether nats.go would publish a header of that name: it is
// as strict as HTTP about them.
func validKey(key string) bool {
	for i := range len(key) {
		if !tokenBytes[key[i]] {
			return false
		}
	}
	return key != ""
}

// tokenBytes are those of a token of RFC 9110.
var tokenBytes = func() (is [256]bool) {
	for b := byte('!'); b <= '~'; b++ {
		is[b] = strings.IndexByte("\"(),/:;<=>?@[\\]{}", b) < 0
	}
	return is
}()

// Keys returns all keys, in no order.
func (c HeaderCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
