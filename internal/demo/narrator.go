package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/trail"
)

// narrator prints a line for each order event as it is stored. Once it is brief, it
// prints one line a second for the events that exceed a few a second.
type narrator struct {
	mu      sync.Mutex
	out     io.Writer
	printed uint64 // the sequence of the last event that was printed or left out

	limit   *rate.Limiter // of lines; nil: no limit
	leftOut int           // events since the last line
	summary *time.Timer   // prints their number
}

// A brief narrator prints the events of several orders at once, and of one order a second
// for as long as it takes.
const (
	briefLines = 6 // a second
	briefBurst = 30
)

// brief limits the lines from now on.
func (n *narrator) brief() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.limit = rate.NewLimiter(briefLines, briefBurst)
}

// event prints a line about an event with this sequence, or leaves it out.
func (n *narrator) event(sequence uint64, line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.printed = sequence
	if n.limit == nil || n.leftOut == 0 && n.limit.Allow() {
		fmt.Fprint(n.out, line)
		return
	}
	if n.leftOut++; n.leftOut == 1 {
		n.summary = time.AfterFunc(time.Second, n.summarize)
	}
}

// summarize prints how many events were left out.
func (n *narrator) summarize() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leftOut > 0 {
		fmt.Fprintf(n.out, "  %9s  and %s in a second\n", "", trail.Counted(n.leftOut, "more event"))
		n.leftOut = 0
	}
}

// end prints what is left. The caller calls event no more.
func (n *narrator) end() {
	n.mu.Lock()
	summary := n.summary
	n.mu.Unlock()
	if summary != nil && summary.Stop() {
		n.summarize()
	}
}

func (n *narrator) printf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, format, args...)
}

// follow prints the events behind a position, until ctx ends.
func (n *narrator) follow(ctx context.Context, c *stream.Client, from stream.Position) error {
	defer n.end()
	err := n.print(ctx, c, from)
	for errors.Is(err, stream.ErrReplaced) {
		err = n.print(ctx, c, stream.Position{})
	}
	return err
}

func (n *narrator) print(ctx context.Context, c *stream.Client, from stream.Position) error {
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
			after = "+" + trail.Duration(e.Time.Sub(at))
		}
		n.event(e.Sequence, fmt.Sprintf("  %9s  %-22s order …%s  trace %.8s…\n", after, e.Type, e.Key[len(e.Key)-6:], traceID(e)))
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
