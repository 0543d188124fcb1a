package systemtest

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Network stands between clients and their server, and can harm the connection of
// each.
type Network struct {
	// BeforeSend, if set before the first Connect, is called with the bytes that a client
	// is about to send: a part of a message or several messages. It may harm the client
	// before the server has them.
	BeforeSend func(c *Client, data []byte)

	connect func(...nats.Option) (*nats.Conn, error)

	mu      sync.Mutex
	clients []*Client
	closed  bool
}

// NewNetwork makes a network to a server or a cluster, by its Connect. Close it before the
// server, and after the users of its connections.
func NewNetwork(connect func(...nats.Option) (*nats.Conn, error)) *Network {
	return &Network{connect: connect}
}

// Connect opens a client's connection, as Config.Connect.
func (n *Network) Connect(opts ...nats.Option) (*nats.Conn, error) {
	c := &Client{network: n}
	nc, err := n.connect(append(slices.Clip(opts), c.stepBetween)...)
	if err != nil {
		return nil, err
	}
	c.conn = nc
	if !n.add(c) {
		c.end()
		return nil, net.ErrClosed
	}
	return nc, nil
}

func (n *Network) add(c *Client) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.clients = append(n.clients, c)
	}
	return !n.closed
}

// Client returns the client that was the number-th to connect, from 0, for a
// service; nil if there was none. That is the service's replica of this number,
// if its replicas are started one after the other.
func (n *Network) Client(service string, number int) *Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.clients {
		if c.service != service {
			continue
		}
		if number == 0 {
			return c
		}
		number--
	}
	return nil
}

// Close closes the connections of all clients, and refuses new ones.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	clients := n.clients
	n.mu.Unlock() // BeforeSend may need it before a client ends
	for _, c := range clients {
		c.end()
	}
}

// Client is the connection of one replica, and those that follow when it reconnects. A
// killed client cannot be harmed further.
type Client struct {
	network *Network
	service string
	conn    *nats.Conn
	paused  atomic.Bool
	relays  sync.WaitGroup // of all links

	mu     sync.Mutex
	link   link // the latest
	killed bool
}

// Cut breaks the connection, as a failing network would. Bytes under way in either
// direction are lost. The client reconnects according to its options.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link.hangUp()
}

// Kill cuts the connection for ever, as the death of the process would. The client's own
// code only notices that it cannot connect, and goes on trying: see
// Replica.Kill.
func (c *Client) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	c.link.hangUp()
}

// Pause delays all bytes, in both directions, until Resume, as a stopped process or a
// stalled network would. Nothing is lost unless the connection ends first; while paused,
// the client cannot open another.
//
// The client's own code runs on, and so do its timeouts: a request that it gave up may
// still arrive. After some minutes without an answer to a ping, client and server both
// hold the connection for dead.
func (c *Client) Pause() { c.paused.Store(true) }

// Resume ends a Pause: the delayed bytes arrive, in order.
func (c *Client) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused.Store(false)
	c.link.wake()
}

// end leaves nothing of the client behind.
func (c *Client) end() {
	c.Kill() // first, or closing would send the buffer
	c.conn.Close()
	c.relays.Wait()
}

// stepBetween is the last nats.Option, so that it sees the effect of the others.
func (c *Client) stepBetween(o *nats.Options) error {
	c.service = strings.TrimPrefix(o.Name, "ordertrail ")
	if o.InProcessServer != nil {
		o.InProcessServer = inProcess{c, o.InProcessServer}
	}
	o.CustomDialer = dialer{c, net.Dialer{Timeout: o.Timeout}}
	return nil
}

type inProcess struct {
	client *Client
	server nats.InProcessConnProvider
}

func (p inProcess) InProcessConn() (net.Conn, error) { return p.client.dial(p.server.InProcessConn) }

type dialer struct {
	client *Client
	net.Dialer
}

func (d dialer) Dial(network, addr string) (net.Conn, error) {
	return d.client.dial(func() (net.Conn, error) { return d.Dialer.Dial(network, addr) })
}

// dial returns the client's end of a new link. It never waits: the NATS client
// holds a lock meanwhile that all its methods take.
func (c *Client) dial(server func() (net.Conn, error)) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.killed:
		return nil, errors.New("the client was killed")
	case c.paused.Load():
		return nil, errors.New("the client is paused")
	}
	conn, err := server()
	if err != nil {
		return nil, err
	}
	c.link.hangUp() // the client has left it
	client, near := net.Pipe()
	l := link{near, conn}
	c.link = l
	c.relays.Go(func() { c.relay(l, conn, near, c.network.BeforeSend) })
	c.relays.Go(func() { c.relay(l, near, conn, nil) })
	return client, nil
}

// relay copies bytes until either end of the link closes. While paused it goes on reading
// and keeps the bytes: a sender must not block, since client and server take that for a
// dead connection.
func (c *Client) relay(l link, to, from net.Conn, before func(*Client, []byte)) {
	defer l.hangUp()
	const chunk = 32 << 10
	var held []byte
	for {
		held = slices.Grow(held, chunk)
		n, err := from.Read(held[len(held) : len(held)+chunk])
		held = held[:len(held)+n]
		if n > 0 && before != nil {
			before(c, held[len(held)-n:])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // woken; the order matters: see wake
			err = from.SetReadDeadline(time.Time{})
		}
		if len(held) > 0 && !c.paused.Load() {
			if _, err := to.Write(held); err != nil {
				return
			}
			held = held[:0]
		}
		if err != nil {
			return
		}
	}
}

// link is one connection: the ends that a client and its server talk to. The zero
// value is one that has ended.
type link struct{ client, server net.Conn }

// hangUp closes both ends; bytes that were not copied are lost. It may be called again.
func (l link) hangUp() {
	if l.client != nil {
		_ = l.client.Close()
		_ = l.server.Close()
	}
}

// wake makes both directions check again whether they are paused, by ending their reads.
func (l link) wake() {
	if l.client != nil {
		now := time.Now()
		_ = l.client.SetReadDeadline(now) // an error: the link has ended
		_ = l.server.SetReadDeadline(now)
	}
}
