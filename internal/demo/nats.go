package demo

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/embedded"
)

// DefaultNATSAddr is where NATS clients connect by default.
const DefaultNATSAddr = "127.0.0.1:4222"

// NoNATS lets none in.
const NoNATS = "none"

// startNATS runs the server, and says where clients of other processes can
// connect: "" for nowhere.
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
		server, err = embedded.Start(o.Store) // somebody else's server is there: that is fine
		return server, "", err
	}
	if err != nil {
		return nil, "", err
	}
	return server, server.URL(), nil
}

// why says why no NATS client can connect.
func why(o Options) string {
	if o.NATSAddr == NoNATS {
		return "--nats " + NoNATS
	}
	return DefaultNATSAddr + " is in use (--nats says where else)"
}

// setting is what goes before a command so that it finds the server.
func setting(natsURL string) string {
	if natsURL == nats.DefaultURL {
		return ""
	}
	return "NATS_URL=" + natsURL + " "
}
