package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
)

// durationBuckets are the boundaries the conventions advise, in seconds. Package
// messagingconv sets none, and the SDK's own are made for milliseconds.
var durationBuckets = metric.WithExplicitBucketBoundaries(
	0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

// instruments are the metrics of the conventions.
type instruments struct {
	provider  metric.MeterProvider // they were made by
	operation metric.Float64Histogram
	process   metric.Float64Histogram
	sent      metric.Int64Counter
	consumed  metric.Int64Counter
}

// newInstruments makes them. An instrument that cannot be made does nothing; the
// error goes to OpenTelemetry's handler.
func newInstruments(p metric.MeterProvider) *instruments {
	meter := p.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	operation, err1 := messagingconv.NewClientOperationDuration(meter, durationBuckets)
	process, err2 := messagingconv.NewProcessDuration(meter, durationBuckets)
	sent, err3 := messagingconv.NewClientSentMessages(meter)
	consumed, err4 := messagingconv.NewClientConsumedMessages(meter)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			otel.Handle(err)
		}
	}
	return &instruments{p, operation.Inst(), process.Inst(), sent.Inst(), consumed.Inst()}
}

// enabled reports whether somebody reads any of them.
func (i *instruments) enabled(ctx context.Context) bool {
	return i.process.Enabled(ctx) || i.operation.Enabled(ctx) || i.sent.Enabled(ctx) || i.consumed.Enabled(ctx)
}

// took records how long work of shape s took in h.
func (s *shape) took(ctx context.Context, h metric.Float64Histogram, since time.Time, class string) {
	if !since.IsZero() && h.Enabled(ctx) {
		h.Record(ctx, time.Since(since).Seconds(), s.measures.get(class).record...)
	}
}

// count adds n messages of shape s to c.
func (s *shape) count(ctx context.Context, c metric.Int64Counter, n int, class string) {
	if n > 0 && c.Enabled(ctx) {
		c.Add(ctx, int64(n), s.measures.get(class).add...)
	}
}

// measure is a set of attributes, made once: loose ones would be sorted and
// hashed with every number.
type measure struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

func newMeasure(attrs []attribute.KeyValue) *measure {
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return &measure{record: []metric.RecordOption{set}, add: []metric.AddOption{set}}
}

// measures holds the attributes of a shape's metrics: of low cardinality, so a
// destination is named by its template, or by its name if that is bounded.
type measures struct {
	attributes []attribute.KeyValue
	success    *measure
	mu         sync.RWMutex
	failures   map[string]*measure // by error.type
}

// maxFailures bounds the cache, for who says how many classes of errors there are.
const maxFailures = 64

func (m *measures) of(key *shapeKey, class attribute.KeyValue, server []attribute.KeyValue) {
	m.attributes = append(m.attributes,
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationName(string(key.operation)),
		class,
	)
	switch {
	case varies(key.template):
		m.attributes = append(m.attributes, semconv.MessagingDestinationTemplate(key.template))
	case key.template != "":
		m.attributes = append(m.attributes, semconv.MessagingDestinationName(key.template))
	}
	if key.group != "" {
		m.attributes = append(m.attributes, semconv.MessagingConsumerGroupName(key.group))
	}
	m.attributes = append(m.attributes, server...)
	m.success = newMeasure(m.attributes)
}

// get returns the attributes for a class of errors, "" for success.
func (m *measures) get(class string) *measure {
	if class == "" {
		return m.success
	}
	m.mu.RLock()
	f := m.failures[class]
	m.mu.RUnlock()
	if f != nil {
		return f
	}
	f = newMeasure(append(m.attributes[:len(m.attributes):len(m.attributes)], semconv.ErrorTypeKey.String(class)))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failures == nil {
		m.failures = make(map[string]*measure)
	}
	if len(m.failures) < maxFailures {
		m.failures[class] = f
	}
	return f
}
