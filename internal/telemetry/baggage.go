package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// baggageAttributes is a processor that copies the baggage members of these keys to
// attributes of each span. Contrib's baggagecopy does the same, but copies all members
// first, for every span.
type baggageAttributes []string

func (keys baggageAttributes) OnStart(ctx context.Context, span sdktrace.ReadWriteSpan) {
	bag := baggage.FromContext(ctx)
	for _, key := range keys {
		if m := bag.Member(key); m.Key() != "" {
			span.SetAttributes(attribute.String(key, m.Value()))
		}
	}
}

func (baggageAttributes) OnEnd(sdktrace.ReadOnlySpan)      {}
func (baggageAttributes) Shutdown(context.Context) error   { return nil }
func (baggageAttributes) ForceFlush(context.Context) error { return nil }
