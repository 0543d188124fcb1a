package tracing

import (
	"context"

	"go.opentelemetry.io/otel/baggage"
)

// withBaggage returns ctx with the members of both; where they disagree strong
// wins. Members beyond the limits of W3C Baggage are left out.
func withBaggage(ctx context.Context, strong, weak baggage.Baggage) context.Context {
	union := strong
	for _, m := range weak.Members() {
		if strong.Member(m.Key()).Key() != "" {
			continue
		}
		if b, err := union.SetMember(m); err == nil {
			union = b
		}
	}
	return baggage.ContextWithBaggage(ctx, union)
}
