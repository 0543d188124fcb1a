// Package servicetest lets the tests of a service call its handlers. It imports no service,
// so that tests inside a service's package can use it.
package servicetest

import (
	"context"
	"log/slog"
	"testing"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// Runtime returns the runtime of a service that consumes nothing, on a server of its own
// that has the streams.
func Runtime(t *testing.T, name string) *service.Runtime {
	t.Helper()
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	rt, err := service.NewRuntime(t.Context(), service.Config{Name: name, Log: slog.DiscardHandler, Connect: server.Connect})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close(context.WithoutCancel(t.Context())) })
	if err := stream.Provision(t.Context(), rt.Stream.JetStream(), stream.Topology{}); err != nil {
		t.Fatal(err)
	}
	return rt
}
