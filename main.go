// Command ordertrail runs the demo: six services on an embedded NATS server, in
// one process. Its other commands work on the demo's server, or any other; see usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const usage = `ordertrail: an order's way through six services over NATS JetStream, traced with span links

  go run .                    the demo: everything in one process, one order per scenario
      --once                  stop after the scenarios; exit 0 only if each ended as it should
      --store DIR             keep the streams in DIR instead of a temporary directory
      --nats ADDR             where NATS clients can connect, default 127.0.0.1:4222 while it serves; none: nowhere
  go run . trail ID           an order's trail, from its id or that of any of its traces or spans
      --url URL               the shop's API, default http://127.0.0.1:8080
  go run . provision          make streams, consumers and buckets
  go run . restock SKU N      add N units to the stock
  go run . deadletters        what could not be handled: list, show ID, redrive ID… or redrive --all
  go run . replay analytics   count everything anew from the stream, beside the running service
  go run . load               place many orders with the shop's API; -h tells how
  go run . healthcheck URL    exit 0 if a GET of the URL is answered with 200, such as a service's /readyz

provision, restock, deadletters and replay work on the NATS server at NATS_URL,
by default nats://127.0.0.1:4222, where the demo lets them in while it serves.
Settings are read from the environment: see the README.
`

func main() {
	if runService(filepath.Base(os.Args[0])) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintf(os.Stderr, "ordertrail: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := "demo"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	switch command {
	case "demo":
		return runDemo(ctx, args)
	case "trail":
		return showTrail(ctx, args)
	case "provision":
		return provision(ctx, args)
	case "restock":
		return restock(ctx, args)
	case "deadletters":
		return deadLetters(ctx, args)
	case "replay":
		return replay(ctx, args)
	case "load":
		return runLoad(ctx, args)
	case "healthcheck":
		return healthcheck(ctx, args)
	case "help":
		fmt.Print(usage)
		return nil
	}
	return fmt.Errorf("there is no command %q: demo, trail, provision, restock, deadletters, replay, load, healthcheck and help are", command)
}
