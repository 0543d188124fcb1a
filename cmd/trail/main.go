// Command trail shows one story across linked traces, for any application that sends
// OpenTelemetry traces.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"example.org/ordertrail/internal/cli"
)

// call is how a user starts this program.
const call = "go run ./cmd/trail"

var program = cli.Program{
	Call:  call,
	About: "trail shows one story across linked traces, of any application that sends\nOpenTelemetry traces.",
	Notes: "To send traces to trail serve, set in the application:\n" +
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 (HTTP) or :4317 (gRPC).\n" +
		"Exit codes: 0; 1 if something failed or was not found; 2 for a wrong command\n" +
		"line. See docs/trail.md.\n",
	Commands: []cli.Command{
		{Name: "serve", Help: "receive traces and show stories as they happen, until Ctrl-C", Setup: serveCommand},
		{Name: "show", Args: "ID", Help: "print the story of a trace or a span", Setup: showCommand},
	},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cli.Exit("trail", program.Run(ctx, os.Args[1:]))
}
