package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Cluster is several servers that replicate each other's streams, on loopback.
type Cluster struct{ servers []*server.Server }

// StartCluster runs size servers with stores below dir and waits until they have
// elected a leader.
func StartCluster(dir string, size int) (*Cluster, error) {
	routes, err := freeAddresses(size)
	if err != nil {
		return nil, err
	}
	var urls []*url.URL
	for _, addr := range routes {
		urls = append(urls, &url.URL{Scheme: "nats-route", Host: addr})
	}
	c := &Cluster{}
	for i, addr := range routes {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		routePort, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i+1),
			Host:       host, Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprintf("n%d", i+1)),
			Cluster: server.ClusterOpts{Name: "ordertrail", Host: host, Port: routePort},
			Routes:  urls,
			NoSigs:  true, NoLog: true,
			SyncInterval: time.Second,
		})
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("start server %d: %w", i+1, err)
		}
		c.servers = append(c.servers, s)
		s.Start()
	}
	deadline := time.Now().Add(startTimeout)
	for !c.ready() {
		if time.Now().After(deadline) {
			c.Close()
			return nil, fmt.Errorf("the cluster has no leader after %v", startTimeout)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return c, nil
}

// ready tells whether every server is up, and one leads and knows the others.
func (c *Cluster) ready() bool {
	leaders := 0
	for _, s := range c.servers {
		if !s.ReadyForConnections(time.Millisecond) || !s.JetStreamIsCurrent() {
			return false
		}
		if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(c.servers) {
			leaders++
		}
	}
	return leaders == 1
}

// Connect opens a connection to one of the servers, picked at random; it moves to
// another when that one stops.
func (c *Cluster) Connect(opts ...nats.Option) (*nats.Conn, error) {
	urls := ""
	for i, s := range c.servers {
		if i > 0 {
			urls += ","
		}
		urls += s.ClientURL()
	}
	return nats.Connect(urls, opts...)
}

// Close stops all servers.
func (c *Cluster) Close() {
	for _, s := range c.servers {
		s.Shutdown()
	}
	for _, s := range c.servers {
		s.WaitForShutdown()
	}
}

// freeAddresses finds n loopback addresses that nobody listens on.
func freeAddresses(n int) (addrs []string, err error) {
	var listeners []net.Listener
	for range n {
		l, listenErr := net.Listen("tcp", "127.0.0.1:0")
		if listenErr != nil {
			err = errors.Join(err, listenErr)
			break
		}
		listeners = append(listeners, l)
		addrs = append(addrs, l.Addr().String())
	}
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return addrs, err
}
