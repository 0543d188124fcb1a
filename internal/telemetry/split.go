package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// maxRequest is how much is exported at a time, in bytes. Receivers of OTLP over
// gRPC refuse messages over 4 MiB, and with them all their spans; the SDK counts
// spans alone, 512 to a message, whatever the number of their links.
const maxRequest = 3 << 20

// splitting exports in portions that a receiver takes. A single span that is too
// large goes alone, and may be refused.
type splitting struct{ sdktrace.SpanExporter }

func (e splitting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	var errs []error
	for len(spans) > 0 {
		size, n := estimate(spans[0]), 1
		for n < len(spans) {
			if size += estimate(spans[n]); size > maxRequest {
				break
			}
			n++
		}
		errs = append(errs, e.SpanExporter.ExportSpans(ctx, spans[:n]))
		spans = spans[n:]
	}
	return errors.Join(errs...)
}

// estimate returns about how long a span is on the wire, rather too much.
func estimate(s sdktrace.ReadOnlySpan) int {
	const span, link, event = 200, 60, 40 // ids, times, lengths
	n := span + len(s.Name()) + len(s.Status().Description) + attributes(s.Attributes())
	for _, l := range s.Links() {
		n += link + attributes(l.Attributes)
	}
	for _, e := range s.Events() {
		n += event + len(e.Name) + attributes(e.Attributes)
	}
	return n
}

func attributes(attrs []attribute.KeyValue) (n int) {
	const overhead = 16
	for _, a := range attrs {
		n += overhead + len(a.Key)
		if a.Value.Type() == attribute.STRING {
			n += len(a.Value.AsString())
		} else {
			n += len(a.Value.String())
		}
	}
	return n
}
