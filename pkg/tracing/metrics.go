package tracing

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
)

// durationBuckets are the boundaries that the conventions advise, in seconds.
// Package messagingconv does not set them.
var durationBuckets = metric.WithExplicitBucketBoundaries(
	0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

type instruments struct {
	operation metric.Float64Histogram
	process   metric.Float64Histogram
	sent      metric.Int64Counter
	consumed  metric.Int64Counter
}

// newInstruments reports errors to OpenTelemetry's error handler. An instrument
// that cannot be made records nothing.
func newInstruments(p metric.MeterProvider) instruments {
	meter := p.Meter(ScopeName, metric.WithInstrumentationVersion(Version()), metric.WithSchemaURL(semconv.SchemaURL))
	operation, err1 := messagingconv.NewClientOperationDuration(meter, durationBuckets)
	process, err2 := messagingconv.NewProcessDuration(meter, durationBuckets)
	sent, err3 := messagingconv.NewClientSentMessages(meter)
	consumed, err4 := messagingconv.NewClientConsumedMessages(meter)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			otel.Handle(err)
		}
	}
	return instruments{operation.Inst(), process.Inst(), sent.Inst(), consumed.Inst()}
}

func (i *instruments) enabled(ctx context.Context) bool {
	return i.operation.Enabled(ctx) || i.process.Enabled(ctx) || i.sent.Enabled(ctx) || i.consumed.Enabled(ctx)
}

// took records the duration of the operation, which class "" ended without error.
func (o *operation) took(class string) {
	i := &o.tracer.metrics
	switch {
	case o.start.IsZero():
	case o.name != opProcess:
		i.operation.Record(o.ctx, time.Since(o.start).Seconds(), o.measured(class, semconv.MessagingOperationTypeKey.String(o.class())))
	default:
		i.process.Record(o.ctx, time.Since(o.start).Seconds(), o.measured(class))
	}
}

// count adds n messages to c.
func (o *operation) count(c metric.Int64Counter, n int, class string) {
	if n > 0 && !o.start.IsZero() {
		c.Add(o.ctx, int64(n), o.measured(class))
	}
}

// measured returns the attributes of a measurement. All have low cardinality: a
// destination is known by its template, or by its name if that is bounded.
func (o *operation) measured(class string, more ...attribute.KeyValue) metric.MeasurementOption {
	attrs := make([]attribute.KeyValue, 0, 10)
	attrs = append(attrs, semconv.MessagingSystemKey.String("nats"), semconv.MessagingOperationName(o.name))
	attrs = append(attrs, more...)
	switch {
	case strings.Contains(o.template, "{"):
		attrs = append(attrs, semconv.MessagingDestinationTemplate(o.template))
	case o.template != "":
		attrs = append(attrs, semconv.MessagingDestinationName(o.template))
	}
	if o.group != "" {
		attrs = append(attrs, semconv.MessagingConsumerGroupName(o.group))
	}
	attrs = append(attrs, o.tracer.serverAddress()...)
	if class != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(class))
	}
	if f := o.tracer.metricAttributes; f != nil {
		attrs = append(attrs, f(o.subject)...)
	}
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}
