package respond

import (
	"net"
	"net/netip"
	"strings"
)

// URL returns the URL of a listener's address. One that listens at all addresses is
// reached at the loopback interface's.
func URL(listening net.Addr) string {
	host, port, err := net.SplitHostPort(listening.String())
	if ip, parse := netip.ParseAddr(host); err != nil || parse != nil || !ip.IsUnspecified() {
		return "http://" + listening.String()
	}
	return "http://" + net.JoinHostPort("127.0.0.1", port)
}

// HostName returns the name in a Host header or an authority: without the port and
// brackets, in lower case.
func HostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

// IsLoopback reports whether a name is one of the loopback interface's.
func IsLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback() || name == "localhost" || strings.HasSuffix(name, ".localhost")
}
