package stream_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

// sabotage is a server that makes no consumers for a client while it is on.
type sabotage struct {
	nats.InProcessConnProvider
	on      atomic.Bool
	refused atomic.Int64
}

func (s *sabotage) InProcessConn() (net.Conn, error) {
	conn, err := s.InProcessConnProvider.InProcessConn()
	return sabotaged{conn, s}, err
}

type sabotaged struct {
	net.Conn
	*sabotage
}

func (s sabotaged) Write(b []byte) (int, error) {
	create := []byte("PUB $JS.API.CONSUMER.CREATE.")
	if s.on.Load() && bytes.Contains(b, create) {
		s.refused.Add(1)
		b = bytes.ReplaceAll(b, create, []byte("PUB $NO.API.CONSUMER.CREATE.")) // nobody responds
	}
	return s.Conn.Write(b)
}

// After an outage, the client library waits longer and longer before it makes a consumer
// again. A follower makes one of its own when a message waits.
func TestFollowDoesNotStall(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var s sabotage
	nc, err := b.server.Connect(func(o *nats.Options) error {
		s.InProcessConnProvider, o.InProcessServer = o.InProcessServer, &s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var log systemtest.Output
	c, err := stream.New(nc, tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider())), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.CheckAfter(100 * time.Millisecond)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	ended, consumers := make(chan error, 1), make(chan string, 10)
	go func() {
		ended <- c.Follow(ctx, []string{"orders.*.*"}, stream.Position{}, func(m jetstream.Msg) error {
			meta, err := m.Metadata()
			consumers <- meta.Consumer
			return err
		})
	}()
	b.MustCreate(t)
	first := <-consumers
	s.on.Store(true)
	if err := b.JetStream().DeleteConsumer(b.ctx, stream.OrdersStream, first); err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the library has tried three times, and waits for four seconds", func() bool { return s.refused.Load() == 3 })
	s.on.Store(false)
	for range 3 {
		b.MustCreate(t)
	}
	for range 3 {
		prefix := first[:strings.LastIndexByte(first, '_')]
		if next := <-consumers; strings.HasPrefix(next, prefix) {
			t.Errorf("a message came from %s, which the library made in place of %s", next, first)
		}
	}
	systemtest.Until(t, "the log has the stall and its end", func() bool {
		return strings.Contains(log.String(), `msg="not ready" part=fold error="messages wait`) && strings.Contains(log.String(), "ready again")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
