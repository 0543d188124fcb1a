package tracing

import (
	"context"

	"go.opentelemetry.io/otel/baggage"
)

// The limits of W3C Baggage. Whoever receives more may drop all of it.
const (
	maxMembers      = 64
	maxBaggageBytes = 8192
)

// withBaggage returns ctx with the members of both; where they disagree strong
// wins. Members of weak beyond the limits are left out.
func withBaggage(ctx context.Context, strong, weak baggage.Baggage) context.Context {
	union, size := strong, len(strong.String())
	for _, m := range weak.Members() {
		size += len(m.String()) + len(",")
		if union.Len() >= maxMembers || size > maxBaggageBytes {
			break
		}
		if strong.Member(m.Key()).Key() != "" {
			continue
		}
		if b, err := union.SetMember(m); err == nil {
			union = b
		}
	}
	return baggage.ContextWithBaggage(ctx, union)
}
