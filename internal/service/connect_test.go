package service_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/service"
)

// hosts are the hosts of a server. The first one can lose its power.
type hosts struct {
	nats.InProcessConnProvider
	dark  atomic.Bool
	dials atomic.Int64
}

// InProcessConn connects to the first host, and later ones to others.
func (h *hosts) InProcessConn() (net.Conn, error) {
	conn, err := h.InProcessConnProvider.InProcessConn()
	if h.dials.Add(1) > 1 {
		return conn, err
	}
	return first{conn, h}, err
}

// first is a connection to the first host. While the host is dark, all bytes are lost, and
// the connection does not close.
type first struct {
	net.Conn
	*hosts
}

func (c first) Write(b []byte) (int, error) {
	if c.dark.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c first) Read(b []byte) (int, error) {
	for {
		if n, err := c.Conn.Read(b); err != nil || !c.dark.Load() {
			return n, err
		}
	}
}

// A service notices soon that the host of its server is dead, and connects to another one.
func TestDeadHost(t *testing.T) {
	t.Parallel()
	const (
		faster = 10               // than the services' own pings
		within = 45 * time.Second // in their time
	)
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	var h hosts
	var conn *nats.Conn
	rt, err := service.NewRuntime(t.Context(), service.Config{
		Name: "payments", Log: slog.DiscardHandler,
		Connect: func(opts ...nats.Option) (_ *nats.Conn, err error) {
			conn, err = server.Connect(append(opts, func(o *nats.Options) error {
				h.InProcessConnProvider, o.InProcessServer = o.InProcessServer, &h
				o.PingInterval /= faster
				return nil
			})...)
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	h.dark.Store(true)
	for deadline := time.Now().Add(within / faster); conn.Stats().Reconnects == 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the service holds on to a dead host for more than %v", within)
		}
	}
	if err := conn.FlushTimeout(patience); err != nil {
		t.Errorf("the other host does not answer: %v", err)
	}
}

const patience = 20 * time.Second
