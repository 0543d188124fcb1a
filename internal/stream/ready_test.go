package stream_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

// A client is ready while its durable, its stream and its fold are in place. The log
// has the reason once, and the recovery once.
func TestReady(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lose   func(b bench) error
		reason string
		parts  int // that cannot work
	}{
		"Durable": {func(b bench) error { return b.JetStream().DeleteConsumer(b.ctx, stream.OrdersStream, durable) }, "consumer tester of stream ORDERS is missing: run `ordertrail provision`", 1},
		"Stream":  {func(b bench) error { return b.JetStream().DeleteStream(b.ctx, stream.OrdersStream) }, "stream ORDERS is missing: run `ordertrail provision`", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var log systemtest.Output
			c, err := stream.New(b.conn, tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider())), slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			handled := make(chan bool, 1)
			consume(t, c, handledBy(func(context.Context, event.Event) error { handled <- true; return nil }))
			ctx, cancel := context.WithCancel(b.ctx)
			followed := make(chan struct{})
			go func() {
				defer close(followed)
				for ctx.Err() == nil { // as services do, which start over
					if _, err := c.AwaitExtent(ctx); err == nil {
						_ = c.Follow(ctx, []string{"orders.*.*"}, stream.Position{}, func(jetstream.Msg) error { return nil })
					}
				}
			}()
			defer func() { cancel(); <-followed }()
			readies := func(what string, ready bool) {
				t.Helper()
				systemtest.Until(t, what, func() bool {
					err := c.Ready(b.ctx)
					return (err == nil) == ready && (ready || strings.Contains(err.Error(), tt.reason))
				})
			}
			readies("the client is ready", true)
			if err := tt.lose(b); err != nil {
				t.Fatal(err)
			}
			readies("the client is not ready", false)
			logged := func(text string) int { return strings.Count(log.String(), text) }
			systemtest.Until(t, "each part logs why", func() bool { return logged("level=WARN msg=\"not ready\"") >= tt.parts })
			if err := stream.Provision(b.ctx, b.JetStream(), stream.Topology{Durables: []stream.Durable{handledBy(nil)}}); err != nil {
				t.Fatal(err)
			}
			readies("the client is ready again", true)
			systemtest.Until(t, "each part logs that it can work again", func() bool { return logged("ready again") >= tt.parts })
			b.MustCreate(t)
			<-handled
			if n := logged(`part="consumer of ORDERS" error="` + tt.reason); n != 1 {
				t.Errorf("the reason was logged %d times, want once:\n%s", n, log.String())
			}
		})
	}
}
