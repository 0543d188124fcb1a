package systemtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Cluster is several servers that replicate each other's streams, on loopback.
type Cluster struct {
	dir     string
	routes  []string // addresses, by node
	clients []string

	mu    sync.Mutex
	nodes []*server.Server // nil while stopped
}

// StartCluster runs size servers with stores below dir and waits until the cluster
// is whole.
func StartCluster(dir string, size int) (*Cluster, error) {
	addrs, err := freeAddresses(2 * size)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, routes: addrs[:size], clients: addrs[size:], nodes: make([]*server.Server, size)}
	for i := range size {
		if err := c.Start(i); err != nil {
			c.Close()
			return nil, err
		}
	}
	deadline := time.Now().Add(Patience)
	for !c.Whole() {
		if time.Now().After(deadline) {
			c.Close()
			return nil, fmt.Errorf("the cluster is not whole after %v", Patience)
		}
		<-time.After(10 * time.Millisecond)
	}
	return c, nil
}

// Size returns the number of nodes, with those that are stopped.
func (c *Cluster) Size() int { return len(c.nodes) }

// Stop ends the i-th node, from 0, and waits until its store is closed. The end is
// orderly: the node first gives up the leadership of its streams. Stopping a node
// that is stopped has no effect.
func (c *Cluster) Stop(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.nodes[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.nodes[i] = nil
	}
}

// Start starts a stopped node again, with its store and its addresses. It does not
// wait until the node has caught up; Whole reports that.
func (c *Cluster) Start(i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[i] != nil {
		return fmt.Errorf("start node %d: it is running", i)
	}
	o, err := c.options(i)
	if err != nil {
		return err
	}
	node, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("start node %d: %w", i, err)
	}
	node.Start()
	c.nodes[i] = node
	if !node.ReadyForConnections(Patience) {
		return fmt.Errorf("start node %d: not ready within %v", i, Patience)
	}
	return nil
}

func (c *Cluster) options(i int) (*server.Options, error) {
	host, port, err := split(c.clients[i])
	if err != nil {
		return nil, err
	}
	_, routePort, err := split(c.routes[i])
	if err != nil {
		return nil, err
	}
	var routes []*url.URL
	for _, addr := range c.routes {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: addr})
	}
	return &server.Options{
		ServerName: fmt.Sprintf("n%d", i+1),
		Host:       host, Port: port,
		JetStream: true, StoreDir: c.store(i),
		Cluster: server.ClusterOpts{Name: "ordertrail", Host: host, Port: routePort},
		Routes:  routes,
		NoSigs:  true, NoLog: true,
		SyncInterval: time.Second,
	}, nil
}

// Crash stops all nodes at once, as if they were killed now, and starts them again: each
// node's store is what was on its disk at this moment.
func (c *Cluster) Crash() error {
	copies := make([]string, c.Size())
	for i := range copies {
		copies[i] = c.store(i) + ".copy"
		if err := CopyLive(copies[i], c.store(i)); err != nil {
			return err
		}
	}
	for i := range copies {
		c.Stop(i)
	}
	for i, copied := range copies {
		if err := errors.Join(os.RemoveAll(c.store(i)), os.Rename(copied, c.store(i))); err != nil {
			return err
		}
	}
	for i := range copies {
		if err := c.Start(i); err != nil {
			return err
		}
	}
	return nil
}

// store is the directory of a node's store.
func (c *Cluster) store(i int) string { return filepath.Join(c.dir, fmt.Sprintf("n%d", i+1)) }

// Whole reports whether every node is up, one leads and knows the others, and each
// has caught up with the messages that were stored while it was away.
func (c *Cluster) Whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaders := 0
	for _, s := range c.nodes {
		if s == nil || s.Healthz(nil).StatusCode != http.StatusOK || !led(s) {
			return false
		}
		if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(c.nodes) {
			leaders++
		}
	}
	return leaders == 1
}

// led reports whether the node knows the leader of each stream and consumer that it
// holds. A node that has just come back does not, and yet reports that it is healthy,
// however much it missed.
func led(s *server.Server) bool {
	info, err := s.Jsz(&server.JSzOptions{Consumer: true})
	if err != nil {
		return false
	}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if stream.Cluster == nil || stream.Cluster.Leader == "" {
				return false
			}
			for _, consumer := range stream.Consumer {
				if consumer.Cluster == nil || consumer.Cluster.Leader == "" {
					return false
				}
			}
		}
	}
	return true
}

// Connect opens a connection to one of the nodes, picked at random; it moves to
// another when that one stops.
func (c *Cluster) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(strings.Join(c.clients, ","), opts...)
}

// Close stops all nodes.
func (c *Cluster) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.nodes {
		s.Shutdown() // of nil too
	}
	for i, s := range c.nodes {
		if s != nil {
			s.WaitForShutdown()
			c.nodes[i] = nil
		}
	}
}

// freeAddresses returns n loopback addresses that are free. Their ports are below the
// range that systems assign by themselves, so that the port of a stopped node is
// still free when the node comes back.
func freeAddresses(n int) (addrs []string, err error) {
	const first, last = 20_000, 32_000
	var listeners []net.Listener
	for tries := 0; len(addrs) < n && tries < 100*n; tries++ {
		l, listenErr := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)))
		if listenErr != nil {
			continue // taken
		}
		listeners = append(listeners, l)
		addrs = append(addrs, l.Addr().String())
	}
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	if len(addrs) < n {
		err = errors.Join(err, fmt.Errorf("found no free port between %d and %d", first, last))
	}
	return addrs, err
}

func split(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(p)
	return host, port, err
}
