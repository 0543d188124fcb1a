package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds on the connections of an HTTP server. A connection that sends or reads slowly
// is closed by the timeouts below; until then it costs memory. At the first bound, the
// client with the most connections loses one, so that a few clients cannot keep all others
// out.
const (
	MaxConnections          = 4096
	MaxConnectionsPerClient = 1024
)

// closeTimeout is the time that requests under way have at the end of a server. After it,
// their connections are closed: nearly all are those of clients that do not read.
const closeTimeout = 4 * time.Second

// Serve serves h until ctx ends, then waits for the requests under way. Responses
// without an end, such as live feeds, must end when the channel of [Ending] is closed,
// and must set their own write deadlines.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	return serve(ctx, l, h, writeTimeout)
}

// writeTimeout is the time for an answer, with that for the body of its request.
const writeTimeout = 20 * time.Second

func serve(ctx context.Context, l net.Listener, h http.Handler, writeTimeout time.Duration) error {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnState:         new(connections).changed,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), endingKey{}, ctx.Done())
		},
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := server.Shutdown(closing)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-done
	return err
}

// connections holds the open connections, and closes those beyond the bounds.
type connections struct {
	mu       sync.Mutex
	all      int
	ofClient map[string]map[net.Conn]bool
}

// changed is an [http.Server.ConnState].
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	client := clientOf(conn.RemoteAddr().String())
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if c.ofClient == nil {
			c.ofClient = map[string]map[net.Conn]bool{}
		}
		if c.ofClient[client] == nil {
			c.ofClient[client] = map[net.Conn]bool{}
		}
		c.all++
		c.ofClient[client][conn] = true
		switch {
		case len(c.ofClient[client]) > MaxConnectionsPerClient:
			c.close(client, conn)
		case c.all > MaxConnections:
			c.closeOne()
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(client, conn)
	}
}

// closeOne closes a connection of the client that has the most.
func (c *connections) closeOne() {
	most := ""
	for client, conns := range c.ofClient {
		if len(conns) > len(c.ofClient[most]) {
			most = client
		}
	}
	for conn := range c.ofClient[most] {
		c.close(most, conn)
		return
	}
}

// close closes a connection; the server notices.
func (c *connections) close(client string, conn net.Conn) {
	_ = conn.Close()
	c.forget(client, conn)
}

func (c *connections) forget(client string, conn net.Conn) {
	if conns := c.ofClient[client]; conns[conn] {
		c.all--
		if delete(conns, conn); len(conns) == 0 {
			delete(c.ofClient, client)
		}
	}
}

// ClientOf names the client of a request, for bounds that each client has: its IP
// address, or the network of 64 bits that an IPv6 address belongs to. Behind a proxy all
// clients are one.
func ClientOf(r *http.Request) string { return clientOf(r.RemoteAddr) }

func clientOf(remote string) string {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote // of a test
	}
	ip := address.Addr().Unmap()
	if ip.Is6() {
		network, _ := ip.WithZone("").Prefix(64) // fails for other lengths only
		return network.String()
	}
	return ip.String()
}

type endingKey struct{}

// Ending returns a channel that is closed when the server of a request begins to end.
// The request's own context lives on, so that other requests finish. The channel is nil
// for a request that does not come from [Serve].
func Ending(r *http.Request) <-chan struct{} {
	ending, _ := r.Context().Value(endingKey{}).(<-chan struct{})
	return ending
}
