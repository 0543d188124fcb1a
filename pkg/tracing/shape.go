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
	name       string
	kind       trace.SpanStartOption
	attributes []attribute.KeyValue
}

// maxShapes bounds the cache. A service has a few dozen shapes; more means that
// a template is none, and then a cache would only grow.
const maxShapes = 512

// shapeCache maps keys to shapes. Reads are by far the most frequent, so they
// take no lock: a writer replaces the map.
type shapeCache struct {
	mu     sync.Mutex
	shapes atomic.Pointer[map[shapeKey]*shape]
}

func (c *shapeCache) load(key shapeKey) *shape {
	if m := c.shapes.Load(); m != nil {
		return (*m)[key]
	}
	return nil
}

func (c *shapeCache) store(key shapeKey, s *shape) {
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
	next[key] = s
	c.shapes.Store(&next)
}

func (t *Tracer) shape(key shapeKey) *shape {
	if s := t.shapes.load(key); s != nil {
		return s
	}
	s := t.newShape(key)
	t.shapes.store(key, s)
	return s
}

func (t *Tracer) newShape(key shapeKey) *shape {
	s := &shape{name: string(key.operation)}
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
	case opProcess:
		kind, class = trace.SpanKindConsumer, semconv.MessagingOperationTypeProcess
	default:
		kind, class = trace.SpanKindClient, semconv.MessagingOperationTypeSettle
	}
	s.kind = trace.WithSpanKind(kind)
	s.attributes = append(s.attributes,
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(string(key.operation)),
		class,
	)
	if key.template != "" {
		s.attributes = append(s.attributes, semconv.MessagingDestinationTemplate(key.template))
	}
	if key.group != "" {
		s.attributes = append(s.attributes, semconv.MessagingConsumerGroupName(key.group))
	}
	s.attributes = append(s.attributes, t.server...)
	return s
}

// with returns the attributes a span starts with: those of the shape, the
// concrete subject unless it is "", and more.
func (s *shape) with(subject string, more []attribute.KeyValue) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, len(s.attributes)+1+len(more))
	attrs = append(attrs, s.attributes...)
	if subject != "" {
		attrs = append(attrs, semconv.MessagingDestinationName(subject))
	}
	return append(attrs, more...)
}

// boundedDestination returns what a span name may say of the destination, or "".
func (k shapeKey) boundedDestination() string {
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
	if !strings.Contains(template, "{") {
		return template
	}
	var fixed []string
	for token := range strings.SplitSeq(template, ".") {
		if !strings.Contains(token, "{") {
			fixed = append(fixed, token)
		}
	}
	return strings.Join(fixed, ".")
}

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
