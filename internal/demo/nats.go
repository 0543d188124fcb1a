package demo

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"syscall"

	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/embedded"
)

// DefaultNATSAddr is the default address for NATS clients.
const DefaultNATSAddr = "127.0.0.1:4222"

// NoNATS is an Options.NATSAddr that accepts no clients of other processes.
const NoNATS = "none"

// defaultNATSUser is the default name of the only user of the demo's NATS server.
const defaultNATSUser = "demo"

// startNATS starts the server and returns the URL for clients of other processes, with
// the password; "" if they cannot connect.
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
		return nil, "", cli.Usagef("--nats: %w", err)
	}
	if resolved.IP == nil {
		resolved.IP = net.IPv4(127, 0, 0, 1) // ":4222"
	}
	if !resolved.IP.IsLoopback() {
		return nil, "", cli.Usagef("--nats: want a loopback address such as %s, because clients are not encrypted, not %s", DefaultNATSAddr, addr)
	}
	user := embedded.User(cmp.Or(o.Settings.NATSUser, defaultNATSUser), cmp.Or(o.Settings.NATSPassword, rand.Text()))
	server, err := embedded.Start(o.Store, embedded.Listen(resolved), user)
	if o.NATSAddr == "" && errors.Is(err, syscall.EADDRINUSE) {
		server, err = embedded.Start(o.Store) // another NATS server uses the port
		return server, "", err
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", fmt.Errorf("%w: choose another address with --nats", err)
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
