package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
)

// shopURL is the default address of the shop, the demo's.
const shopURL = "http://127.0.0.1:8080"

func demoCommand(f *flag.FlagSet) func(context.Context, []string) error {
	o := demo.Options{Out: os.Stdout}
	f.BoolVar(&o.Once, "once", false, "stop after the scenarios; exit with 0 only if each ended as it should")
	f.StringVar(&o.Store, "store", "", "keep the streams in `DIR` instead of a temporary directory")
	f.StringVar(&o.NATSAddr, "nats", "", "`ADDR` for NATS clients, default 127.0.0.1:4222 while it serves; none: no clients")
	return func(ctx context.Context, _ []string) (err error) {
		if o.Settings, err = service.ReadSettings(); err != nil {
			return err
		}
		if os.Getenv("LOG_LEVEL") == "" {
			o.Settings.LogLevel = slog.LevelError // the scenarios cause warnings on purpose
		}
		if os.Getenv("ORDER_DEADLINE") == "" {
			o.Settings.OrderDeadline = demo.OrderDeadline
		}
		o.Color = colorful(os.Stdout)
		o.Log = slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.Settings.LogLevel})
		return demo.Run(ctx, o)
	}
}

func provisionCommand(*flag.FlagSet) func(context.Context, []string) error {
	return func(ctx context.Context, _ []string) error {
		return administer(ctx, "provision", "provision", func(ctx context.Context, rt *service.Runtime) error {
			err := stream.Provision(ctx, rt.Stream.JetStream(), stream.Topology{Replicas: rt.Settings.Replicas, Durables: app.Durables()})
			if err == nil {
				fmt.Println("ordertrail: streams, consumers and buckets exist")
			}
			return err
		})
	}
}

func restockCommand(*flag.FlagSet) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) != 2 {
			return errors.New("restock: want an SKU and a number of units, such as: go run . restock LAST-ONE 5")
		}
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return fmt.Errorf("restock: want a number of units, 1 or more, not %q", args[1])
		}
		if _, ok := catalog.Find(args[0]); !ok {
			var skus []string
			for _, p := range catalog.Products() {
				skus = append(skus, p.SKU)
			}
			return fmt.Errorf("restock: unknown product %q (products: %s)", args[0], strings.Join(skus, ", "))
		}
		return administer(ctx, "restock", operator, func(ctx context.Context, rt *service.Runtime) error {
			if err := inventory.Restock(ctx, rt.Stream, args[0], n); err != nil {
				return err
			}
			fmt.Printf("ordertrail: added %d more of %s\n", n, args[0])
			return nil
		})
	}
}

// replayCommand replays analytics alone, because the other services have effects
// outside the stream.
func replayCommand(*flag.FlagSet) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 || args[0] != analytics.Name {
			return errors.New("replay: want analytics, the one service without effects outside the stream: go run . replay analytics")
		}
		return administer(ctx, analytics.Name, operator, func(ctx context.Context, rt *service.Runtime) error {
			result, err := analytics.Replay(ctx, rt)
			if err == nil {
				fmt.Println(result)
			}
			return err
		})
	}
}

func loadCommand(f *flag.FlagSet) func(context.Context, []string) error {
	o := load.Options{Out: os.Stdout}
	f.StringVar(&o.URL, "url", shopURL, "`URL` of the shop, default "+shopURL)
	f.IntVar(&o.Orders, "orders", 1000, "`NUMBER` of orders to place, default 1000")
	f.IntVar(&o.Concurrency, "concurrency", 16, "`NUMBER` of customers at once, default 16; each places an order and waits for its end")
	f.BoolVar(&o.Burst, "burst", false, "place all orders first, as fast as the shop accepts them, then wait for their ends")
	f.DurationVar(&o.Every, "every", 0, "instead, place one order per `DURATION`, such as 1s, of each scenario in turn, until Ctrl-C")
	return func(ctx context.Context, _ []string) error {
		if o.Every != 0 {
			return load.Steady(ctx, o)
		}
		return load.Run(ctx, o)
	}
}

// healthTimeout bounds the wait of healthcheck for an answer.
const healthTimeout = 3 * time.Second

// healthcheckCommand is for containers, whose image contains no other program.
func healthcheckCommand(*flag.FlagSet) func(context.Context, []string) error {
	return func(_ context.Context, args []string) error {
		if len(args) != 1 || !strings.HasPrefix(args[0], "http://") {
			return errors.New("healthcheck: want a URL, such as: go run . healthcheck http://127.0.0.1:8080/readyz")
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
const operator = "operator"

// administer connects to the NATS server at NATS_URL, with an inbox that the user may
// read, and works there.
func administer(ctx context.Context, name, user string, work func(context.Context, *service.Runtime) error) error {
	settings, err := service.ReadSettings()
	if err != nil {
		return err
	}
	rt, err := service.NewRuntime(ctx, service.Config{
		Name: name, User: user, Settings: settings,
		Tracing: []telemetry.Option{telemetry.WithConsoleWriter(os.Stderr)},
	})
	if err != nil {
		return err
	}
	err = work(ctx, rt)
	stopping, cancel := app.StopTimeout(ctx)
	defer cancel()
	return errors.Join(err, rt.Close(stopping))
}

// colorful reports whether out is a terminal that should show colour
// (https://no-color.org).
func colorful(out *os.File) bool {
	info, err := out.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
