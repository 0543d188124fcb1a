package demo

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/embedded"
)

// DefaultNATSAddr is the default address for NATS clients.
const DefaultNATSAddr = "127.0.0.1:4222"

// NoNATS is an Options.NATSAddr that accepts no clients of other processes.
const NoNATS = "none"

// startNATS starts the server and returns the URL for clients of other processes; "" if
// they cannot connect.
func startNATS(o Options) (*embedded.Server, string, error) {
	addr := o.NATSAddr
	switch {
	case addr == NoNATS, addr == "" && o.Once:
		server, err := embedded.Start(o.Store)
		return server, "", err
	case addr == "":
		addr = DefaultNATSAddr
	}
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("--nats: %w", err)
	}
	server, err := embedded.Start(o.Store, embedded.Listen(resolved))
	if o.NATSAddr == "" && errors.Is(err, syscall.EADDRINUSE) {
		server, err = embedded.Start(o.Store) // another NATS server uses the port
		return server, "", err
	}
	if err != nil {
		return nil, "", err
	}
	return server, server.URL(), nil
}

// why returns the reason why no NATS client can connect.
func why(o Options) string {
	if o.NATSAddr == NoNATS {
		return "--nats " + NoNATS
	}
	return DefaultNATSAddr + " is in use; choose another address with --nats"
}

// setting returns the environment that lets a command find the server.
func setting(natsURL string) string {
	if natsURL == nats.DefaultURL {
		return ""
	}
	return "NATS_URL=" + natsURL + " "
}
