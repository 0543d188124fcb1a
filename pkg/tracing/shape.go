package tracing

import (
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// operation is messaging.operation.name.
type operation string

const (
	opPublish operation = "publish"
	opReceive operation = "receive"
	opProcess operation = "process"
	opAck     operation = "ack"
	opNak     operation = "nak"
	opTerm    operation = "term"
)

// shapeKey is what all spans of one kind of work have in common.
type shapeKey struct {
	operation   operation
	link        bool   // publish: the message came with its own creation context
	template    string // of the destination
	destination string // as the caller names it, goes before the template
	stream      string
	group       string // consumer group
}

// shape is what can be made once for all spans with the same key.
type shape struct {
	key        *shapeKey // not to be changed
	name       string
	kind       trace.SpanStartOption
	attributes []attribute.KeyValue
	option     trace.SpanStartOption // of the attributes
	subject    string                // among the attributes, if all messages have the same
	starters   sync.Pool             // of *starter
	measures   measures
}

// maxShapes bounds the cache. A service has a few dozen shapes; more means that
// a template is none, and then a cache would only grow.
const maxShapes = 512

// shapeCache maps keys to shapes. Reads are by far the most frequent, so they
// take no lock: a writer replaces the map.
type shapeCache struct {
	recent [16]atomic.Pointer[shape] // by hash, for those who come often
	mu     sync.Mutex
	shapes atomic.Pointer[map[shapeKey]*shape]
}

// hash tells most of a service's few shapes apart, and costs nothing.
func (k *shapeKey) hash() int {
	h := len(k.operation) + 3*len(k.template) + 5*len(k.destination)
	if n := len(k.template); n > 0 {
		h += int(k.template[n/2])
	}
	return h & 15
}

func (c *shapeCache) load(key *shapeKey) *shape {
	if m := c.shapes.Load(); m != nil {
		return (*m)[*key]
	}
	return nil
}

func (c *shapeCache) store(key *shapeKey, s *shape) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var old map[shapeKey]*shape
	if m := c.shapes.Load(); m != nil {
		old = *m
	}
	if len(old) >= maxShapes {
		return
	}
	next := make(map[shapeKey]*shape, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[*key] = s
	c.shapes.Store(&next)
}

func (t *Tracer) shape(key *shapeKey) *shape {
	recent := &t.shapes.recent[key.hash()]
	if s := recent.Load(); s != nil && *s.key == *key {
		return s
	}
	s := t.shapes.load(key)
	if s == nil {
		s = t.newShape(key)
		t.shapes.store(key, s)
	}
	recent.Store(s)
	return s
}

func (t *Tracer) newShape(key *shapeKey) *shape {
	own := *key
	s := &shape{key: &own, name: string(key.operation)}
	if d := key.boundedDestination(); d != "" {
		s.name += " " + d
	}
	var kind trace.SpanKind
	var class attribute.KeyValue
	switch key.operation {
	case opPublish:
		// The span whose context a message carries is a PRODUCER; a send span
		// of a message that was created elsewhere is a CLIENT ("Span kind").
		kind, class = trace.SpanKindProducer, semconv.MessagingOperationTypeSend
		if key.link {
			kind = trace.SpanKindClient
		}
	case opReceive:
		kind, class = trace.SpanKindClient, semconv.MessagingOperationTypeReceive
	case opProcess:
		kind, class = trace.SpanKindConsumer, semconv.MessagingOperationTypeProcess
	default:
		kind, class = trace.SpanKindClient, semconv.MessagingOperationTypeSettle
	}
	s.kind = trace.WithSpanKind(kind)
	attrs := append([]attribute.KeyValue(nil),
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(string(key.operation)),
		class,
	)
	if key.template != "" {
		attrs = append(attrs, semconv.MessagingDestinationTemplate(key.template))
	}
	// A template without variable tokens is the subject itself.
	if key.template != "" && !varies(key.template) {
		s.subject = key.template
		attrs = append(attrs, semconv.MessagingDestinationName(s.subject))
	}
	if key.group != "" {
		attrs = append(attrs, semconv.MessagingConsumerGroupName(key.group))
	}
	s.attributes = append(attrs, t.server...)
	s.option = trace.WithAttributes(s.attributes...)
	s.measures.of(key, class, t.server)
	return s
}

// boundedDestination returns what a span name may say of the destination, or "".
func (k *shapeKey) boundedDestination() string {
	if k.destination != "" {
		return k.destination
	}
	if d := fixedTokens(k.template); d != "" {
		return d
	}
	return k.stream
}

// fixedTokens returns a template without the tokens that vary.
func fixedTokens(template string) string {
	if !varies(template) {
		return template
	}
	var fixed []string
	for token := range strings.SplitSeq(template, ".") {
		if !varies(token) {
			fixed = append(fixed, token)
		}
	}
	return strings.Join(fixed, ".")
}

// varies reports whether a template has variable tokens.
func varies(template string) bool { return strings.Contains(template, "{") }

// templateOf returns the template of a subject, or "".
func (t *Tracer) templateOf(subject string) string {
	if t.template == nil {
		return ""
	}
	template := t.template(subject)
	if strings.HasPrefix(template, "_INBOX.") || strings.HasPrefix(template, "$JS.") {
		return ""
	}
	return template
}
