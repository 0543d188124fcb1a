package tracing

import (
	"maps"
	"math"
	"strings"

	"github.com/nats-io/nats.go"
)

const (
	// maxHeader is the longest header block JetStream stores.
	maxHeader = math.MaxUint16
	// spareHeader is left for what publish options add after the context is
	// injected: a message id, expectations.
	spareHeader = 1024

	baggageHeader = "baggage"
)

// surveyed is what one look at a header tells.
type surveyed struct {
	fields int  // how many headers a carrier would read as one of the propagator's
	roomy  bool // there are values that an append would write into the array of
	size   int  // on the wire
}

func survey(h nats.Header, fields []string) surveyed {
	s := surveyed{size: len(headerStart)}
	for k, vs := range h {
		if isField(k, fields) {
			s.fields++
		}
		s.roomy = s.roomy || cap(vs) > len(vs)
		for _, v := range vs {
			s.size += headerLine(k, v)
		}
	}
	return s
}

// clone returns a copy of h without the headers in fields. The values are
// shared, but nothing that the methods of a header do reaches the original.
// It is nil if h is nil, and may be if nothing is left.
func (s surveyed) clone(h nats.Header, fields []string) nats.Header {
	clone := maps.Clone(h)
	if s.fields == 0 && !s.roomy {
		return clone
	}
	for k, vs := range h {
		if isField(k, fields) {
			delete(clone, k)
		} else if cap(vs) > len(vs) {
			clone[k] = vs[:len(vs):len(vs)]
		}
	}
	return clone
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

const headerStart = "NATS/1.0\r\n\r\n"

func headerLine(key, value string) int {
	return len(key) + len(": ") + len(value) + len("\r\n")
}

// headerSize returns the length of h on the wire.
func headerSize(h nats.Header) int {
	return survey(h, nil).size
}

// injector is the carrier of a Send: unlike HeaderCarrier it makes a header
// where there is none, and keeps a value where the Send is.
type injector Send

func (c *injector) Get(key string) string { return HeaderCarrier(c.msg.Header).Get(key) }
func (c *injector) Keys() []string        { return HeaderCarrier(c.msg.Header).Keys() }

func (c *injector) Set(key, value string) {
	if !validKey(key) {
		return
	}
	if c.msg.Header == nil {
		c.msg.Header = make(nats.Header, 1)
	}
	for _, v := range c.msg.Header[key] {
		c.size -= headerLine(key, v)
	}
	c.size += headerLine(key, value)
	if c.set++; c.set > 1 {
		c.msg.Header[key] = []string{value}
		return
	}
	c.value[0] = value
	c.msg.Header[key] = c.value[:]
}
