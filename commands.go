package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/trail"
)

// shopURL is the default address of the shop, the demo's.
const shopURL = "http://127.0.0.1:8080"

func demoCommand(f *flag.FlagSet) cli.Run {
	o := demo.Options{}
	f.BoolVar(&o.Once, "once", false, "stop after the scenarios; exit with 0 only if each ended as it should")
	f.StringVar(&o.Store, "store", "", "keep the streams in `DIR` instead of a temporary directory")
	f.StringVar(&o.NATSAddr, "nats", "", "loopback `ADDR` for NATS clients, default 127.0.0.1:4222 while it serves; none: no clients")
	return func(ctx context.Context, out io.Writer, _ []string) (err error) {
		o.Out = out
		if o.Settings, err = service.ReadSettings(); err != nil {
			return err
		}
		for _, name := range []string{"NATS_URL", "NATS_NKEY"} {
			if os.Getenv(name) != "" {
				fmt.Fprintf(os.Stderr, "ordertrail: demo ignores %s: it starts a NATS server of its own\n", name)
			}
		}
		if os.Getenv("LOG_LEVEL") == "" {
			o.Settings.LogLevel = slog.LevelError // the scenarios cause warnings on purpose
		}
		if os.Getenv("ORDER_DEADLINE") == "" {
			o.Settings.OrderDeadline = demo.OrderDeadline
		}
		o.Color = cli.Colorful(os.Stdout)
		o.Log = slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.Settings.LogLevel})
		// If nobody reads the output any more, as with | head, the demo still removes its store.
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE)
		defer stop()
		return demo.Run(ctx, o)
	}
}

func provisionCommand(*flag.FlagSet) cli.Run {
	return func(ctx context.Context, out io.Writer, _ []string) error {
		return administer(ctx, "provision", "provision", 0, func(ctx context.Context, rt *service.Runtime) error {
			err := stream.Provision(ctx, rt.Stream.JetStream(), stream.Topology{
				Replicas: rt.Settings.Replicas, Durables: app.Durables(),
				Report: func(change string) { fmt.Fprintln(out, trail.Wrap("ordertrail: corrected "+change, 2)) },
				Warn:   func(warning string) { fmt.Fprintln(out, trail.Wrap("ordertrail: "+warning, 2)) },
			})
			if err == nil {
				fmt.Fprintln(out, "ordertrail: streams, consumers and buckets exist")
			}
			return err
		})
	}
}

func restockCommand(f *flag.FlagSet) cli.Run {
	wait := waitFlag(f)
	return func(ctx context.Context, out io.Writer, args []string) error {
		if len(args) != 2 {
			return cli.Usagef("restock: want an SKU and a number of units, such as: go run . restock LAST-ONE 5")
		}
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return cli.Usagef("restock: want a number of units, 1 or more, not %q", args[1])
		}
		if _, ok := catalog.Find(args[0]); !ok {
			var skus []string
			for _, p := range catalog.Products() {
				skus = append(skus, p.SKU)
			}
			return cli.Usagef("restock: unknown product %q (products: %s)", args[0], strings.Join(skus, ", "))
		}
		return administer(ctx, "restock", operator, *wait, func(ctx context.Context, rt *service.Runtime) error {
			if err := inventory.Restock(ctx, rt.Stream, args[0], n); err != nil {
				return err
			}
			fmt.Fprintf(out, "ordertrail: added %d more of %s\n", n, args[0])
			return nil
		})
	}
}

// replayCommand replays analytics alone, because the other services have effects
// outside the stream.
func replayCommand(f *flag.FlagSet) cli.Run {
	wait := waitFlag(f)
	return func(ctx context.Context, out io.Writer, args []string) error {
		if len(args) != 1 || args[0] != analytics.Name {
			return cli.Usagef("replay: want analytics, the one service without effects outside the stream: go run . replay analytics")
		}
		return administer(ctx, analytics.Name, operator, *wait, func(ctx context.Context, rt *service.Runtime) error {
			result, err := analytics.Replay(ctx, rt)
			if err == nil {
				for line := range strings.Lines(result.String()) {
					fmt.Fprintln(out, trail.Wrap(strings.TrimSuffix(line, "\n"), 2))
				}
			}
			return err
		})
	}
}

func loadCommand(f *flag.FlagSet) cli.Run {
	o := load.Options{Progress: os.Stderr, Terminal: cli.Terminal(os.Stderr)}
	f.StringVar(&o.URL, "url", shopURL, "`URL` of the shop, default "+shopURL)
	f.IntVar(&o.Orders, "orders", 1000, "`NUMBER` of orders to place, default 1000")
	f.IntVar(&o.Concurrency, "concurrency", 16, "`NUMBER` of customers at once, default 16; each places an order and waits for its end")
	f.BoolVar(&o.Burst, "burst", false, "place all orders first, as fast as the shop accepts them, then wait for their ends")
	f.DurationVar(&o.Every, "every", 0, "instead, place one order per `DURATION`, such as 1s, of each scenario in turn, until Ctrl-C")
	return func(ctx context.Context, out io.Writer, _ []string) error {
		if _, err := cli.URL(o.URL, shopURL); err != nil {
			return fmt.Errorf("load: %w", err)
		}
		o.Out = out
		given := map[string]bool{}
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["every"] {
			return load.Run(ctx, o)
		}
		for _, other := range []string{"orders", "concurrency", "burst"} {
			if given[other] {
				return cli.Usagef("load: -every places orders until Ctrl-C, without -%s: use one of them", other)
			}
		}
		return load.Steady(ctx, o)
	}
}

// healthTimeout bounds the wait of healthcheck for an answer.
const healthTimeout = 3 * time.Second

// healthcheckCommand is for containers, whose image contains no other program.
func healthcheckCommand(*flag.FlagSet) cli.Run {
	return func(_ context.Context, _ io.Writer, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("healthcheck: want a URL, such as: go run . healthcheck %s/readyz", shopURL)
		}
		if _, err := cli.URL(args[0], shopURL+"/readyz"); err != nil {
			return fmt.Errorf("healthcheck: %w", err)
		}
		answer, err := (&http.Client{Timeout: healthTimeout}).Get(args[0])
		if err != nil {
			return fmt.Errorf("healthcheck: %w", err)
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("healthcheck: %s: %s", args[0], answer.Status)
		}
		return nil
	}
}

// operator is the NATS user of the commands, other than provision, in nats/nats.conf.
// The demo's server has one user for all.
const operator = "operator"

// waitFlag defines the flag that bounds the wait for NATS.
func waitFlag(f *flag.FlagSet) *time.Duration {
	return f.Duration("wait", 10*time.Second, "`DURATION` to wait for NATS, default 10s; 0: no limit")
}

// administer connects to the NATS server at NATS_URL, with an inbox that the user may
// read, and works there. It waits for a server that is away, and for the stream, for at
// most the given time if that is not 0.
func administer(ctx context.Context, name, user string, wait time.Duration, work func(context.Context, *service.Runtime) error) error {
	if wait < 0 {
		return cli.Usagef("--wait must be 0 or more, not %s", wait)
	}
	settings, err := service.ReadSettings()
	if err != nil {
		return err
	}
	connecting, cancel := ctx, context.CancelFunc(func() {})
	if wait > 0 {
		connecting, cancel = context.WithTimeout(ctx, wait)
	}
	defer cancel()
	rt, err := service.NewRuntime(connecting, service.Config{
		Name: name, User: user, Settings: settings,
		Tracing: []telemetry.Option{telemetry.WithConsoleWriter(os.Stderr)},
	})
	if err == nil && wait > 0 {
		if _, missing := rt.Stream.Extent(connecting); missing != nil {
			return errors.Join(missing, closeRuntime(ctx, rt))
		}
	}
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil && connecting.Err() != nil {
		return fmt.Errorf("NATS does not answer: start the server, set NATS_URL, or wait longer than %s with --wait: %w", wait, err)
	}
	if err != nil {
		return err
	}
	return errors.Join(work(ctx, rt), closeRuntime(ctx, rt))
}

func closeRuntime(ctx context.Context, rt *service.Runtime) error {
	stopping, cancel := app.StopTimeout(ctx)
	defer cancel()
	return rt.Close(stopping)
}
