// Command ordertrail runs the demo: six services on an embedded NATS server, in one
// process. Its other commands work on the demo's server, or on another one; see usage.
package main

import (
	"context"
	"flag"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/service"
)

// commands returns all commands in the order of the usage.
func commands() []cli.Command {
	all := []cli.Command{
		{Name: "demo", Help: "run everything in one process, and one order per scenario", Setup: demoCommand},
		{Name: "trail", Args: "ID", Help: "print an order's trail; ID is of the order or of any of its traces or spans", Setup: trailCommand},
		{Name: "provision", Help: "create the streams, consumers and buckets", Setup: provisionCommand},
		{Name: "restock", Args: "SKU N", Help: "add N units to the stock", Setup: restockCommand},
		{Name: "deadletters", Args: "[VERB ID…]", Help: "list (default), show ID or redrive ID… the events that a service gave up", Setup: deadLettersCommand},
		{Name: "replay", Args: "analytics", Help: "count all events again, while the service runs", Setup: replayCommand},
		{Name: "load", Help: "place many orders in the shop", Setup: loadCommand},
		{Name: "healthcheck", Args: "URL", Help: "exit with 0 if a GET of the URL answers 200", Setup: healthcheckCommand},
	}
	for _, def := range app.Services(nil, nil) {
		all = append(all, cli.Command{Name: def.Name, Help: "run this service as a process of its own", Setup: func(*flag.FlagSet) cli.Run {
			return func(context.Context, io.Writer, []string) error { service.Main(def, nil); return nil }
		}})
	}
	return all
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	// The container image has a link to this binary under the name of each service.
	if name := filepath.Base(os.Args[0]); slices.ContainsFunc(app.Services(nil, nil), func(def service.Definition) bool { return def.Name == name }) {
		args = append([]string{name}, args...)
	}
	cli.Exit("ordertrail", run(ctx, args))
}

func run(ctx context.Context, args []string) error {
	return cli.Program{
		Call: "go run .", Default: "demo", Commands: commands(),
		About: "ordertrail sends orders through six services over NATS JetStream, traced with\nspan links.",
		Notes: "provision, restock, deadletters and replay work on the NATS server at NATS_URL,\n" +
			"by default nats://127.0.0.1:4222. The demo prints the NATS_URL of its server,\n" +
			"with the password, when it serves.\n" +
			"Settings are read from the environment: see docs/settings.md.\n" +
			"Exit codes: 0; 1 if something failed; 2 for a wrong command line.\n",
	}.Run(ctx, args)
}
