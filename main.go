// Command ordertrail runs the demo: six services on an embedded NATS server, in one
// process. Its other commands work on the demo's server, or on another one; see usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/service"
)

// command is a command of the binary.
type command struct {
	name string
	args string // the arguments, for the usage; "" if it takes none
	help string // one line
	// setup defines the command's flags and returns the function that runs it.
	setup func(*flag.FlagSet) func(ctx context.Context, args []string) error
}

// commands returns all commands in the order of the usage. The first one is the default.
func commands() []command {
	all := []command{
		{"demo", "", "run everything in one process, and one order per scenario", demoCommand},
		{"trail", "ID", "print an order's trail; ID is of the order or of any of its traces or spans", trailCommand},
		{"provision", "", "create the streams, consumers and buckets", provisionCommand},
		{"restock", "SKU N", "add N units to the stock", restockCommand},
		{"deadletters", "[VERB ID…]", "list (default), show ID or redrive ID… the events that a service gave up", deadLettersCommand},
		{"replay", "analytics", "count all events again, while the service runs", replayCommand},
		{"load", "", "place many orders in the shop", loadCommand},
		{"healthcheck", "URL", "exit with 0 if a GET of the URL answers 200", healthcheckCommand},
		{"help", "", "print this text", helpCommand},
	}
	for _, def := range app.Services(nil, nil) {
		all = append(all, command{def.Name, "", "run this service as a process of its own", func(*flag.FlagSet) func(context.Context, []string) error {
			return func(context.Context, []string) error { service.Main(def); return nil }
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
		args = []string{name}
	}
	if err := run(ctx, args); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "ordertrail: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	all := commands()
	c, names := all[0], []string{}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		for _, c := range all {
			names = append(names, c.name)
		}
		i := slices.Index(names, args[0])
		if i < 0 {
			return fmt.Errorf("unknown command %q (commands: %s)", args[0], strings.Join(names, ", "))
		}
		c, args = all[i], args[1:]
	}
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // main prints the error
	do := c.setup(f)
	var rest []string // flags may stand before, between and after the arguments
	err := f.Parse(args)
	for ; err == nil && f.NArg() > 0; err = f.Parse(f.Args()[1:]) {
		rest = append(rest, f.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		printUsage(os.Stdout)
		return err
	case err == nil && c.args == "" && len(rest) > 0:
		err = fmt.Errorf("unexpected %q", rest[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w (go run . help lists the commands and flags)", c.name, err)
	}
	return do(ctx, rest)
}

func printUsage(out io.Writer) {
	fmt.Fprint(out, "ordertrail sends orders through six services over NATS JetStream, traced with span links.\n\n"+
		"usage: go run . [COMMAND] [FLAGS] [ARGUMENTS]; the default command is demo\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-24s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
		f := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.setup(f)
		f.VisitAll(func(f *flag.Flag) {
			kind, text := flag.UnquoteUsage(f)
			fmt.Fprintf(out, "      %-20s %s\n", strings.TrimSpace("--"+f.Name+" "+kind), text)
		})
	}
	fmt.Fprint(out, "\nprovision, restock, deadletters and replay work on the NATS server at NATS_URL,\n"+
		"by default nats://127.0.0.1:4222, the demo's address while it serves.\n"+
		"Settings are read from the environment: see docs/settings.md.\n")
}

func helpCommand(*flag.FlagSet) func(context.Context, []string) error {
	return func(context.Context, []string) error { printUsage(os.Stdout); return nil }
}
