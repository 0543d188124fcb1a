package demo

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// narrator prints a line for each order event as it is stored.
type narrator struct {
	mu      sync.Mutex
	out     io.Writer
	printed uint64 // the sequence of the last event that was printed
}

func (n *narrator) printf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, format, args...)
}

// follow prints the events from a sequence on, until ctx ends.
func (n *narrator) follow(ctx context.Context, c *stream.Client, from uint64) error {
	started := map[string]time.Time{} // of the open orders
	return c.Follow(ctx, []string{"*.*.*"}, from, func(m jetstream.Msg) error {
		e, err := stream.EventOf(m)
		if err != nil || e.Type.Domain() == "stock" {
			return nil
		}
		if e.Type == event.OrderCreated {
			started[e.Key] = e.Time
			if len(started) > maxOrders {
				clear(started)
			}
		}
		after := ""
		if at, ok := started[e.Key]; ok {
			after = fmt.Sprintf("+%d ms", e.Time.Sub(at).Milliseconds())
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		fmt.Fprintf(n.out, "  %9s  %-22s order …%s  trace %.8s…\n", after, e.Type, e.Key[len(e.Key)-6:], traceID(e))
		n.printed = e.Sequence
		return nil
	})
}

// maxOrders bounds the memory for open orders.
const maxOrders = 10_000

// reached reports whether all events up to sequence were printed.
func (n *narrator) reached(sequence uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.printed >= sequence
}

// traceID returns the id of the trace that published an event.
func traceID(e event.Event) string {
	ctx := propagation.TraceContext{}.Extract(context.Background(), tracing.HeaderCarrier(e.Header))
	return trace.SpanContextFromContext(ctx).TraceID().String()
}
