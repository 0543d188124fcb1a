package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// maxRequest bounds an export, in bytes. Receivers of OTLP over gRPC refuse a message
// over 4 MiB with all its spans; the SDK puts 512 spans into a message, however many
// links they have.
const maxRequest = 3 << 20

// splitting exports a batch in messages that a receiver takes. A span that is larger
// than maxRequest goes alone.
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

// estimate returns a span's size in a message, rather too large than too small.
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
		n += overhead + len(a.Key) + len(a.Value.String())
	}
	return n
}
