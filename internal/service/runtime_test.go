package service_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/telemetry"
)

// exporter records whether its Shutdown had time left.
type exporter struct {
	sdktrace.SpanProcessor
	ended bool
}

func (e *exporter) Shutdown(ctx context.Context) error {
	e.ended = ctx.Err() == nil
	return nil
}

// Close does not wait for NATS while it is away: time is left for the last spans.
func TestCloseWhileAway(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	var conn *nats.Conn
	spans := &exporter{SpanProcessor: sdktrace.NewSimpleSpanProcessor(nil)}
	rt, err := service.NewRuntime(context.Background(), service.Config{
		Name: "payments", Log: slog.DiscardHandler,
		Connect: func(opts ...nats.Option) (_ *nats.Conn, err error) {
			conn, err = server.Connect(opts...)
			return conn, err
		},
		Tracing: []telemetry.Option{telemetry.WithSpanProcessor(spans)},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	for conn.IsConnected() {
		<-time.After(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := rt.Close(ctx); err == nil {
		t.Error("Close reports that the last acknowledgements were sent")
	}
	if !spans.ended {
		t.Error("no time was left for the last spans")
	}
}
