package main

import (
	"context"
	"flag"
	"fmt"
	"io"
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
)

// flags makes a command's flag set, which prints its errors once.
func flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	return f
}

// parse reads a command's flags and refuses arguments beside them.
func parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err == flag.ErrHelp {
		fmt.Print(usage)
		f.SetOutput(os.Stdout)
		f.PrintDefaults()
		return err
	}
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected %q", f.Arg(0))
	}
	if err != nil {
		return fmt.Errorf("%s: %w (go run . help lists the commands and flags)", f.Name(), err)
	}
	return nil
}

func runDemo(ctx context.Context, args []string) error {
	f := flags("demo")
	store := f.String("store", "", "keep the streams in this directory")
	once := f.Bool("once", false, "stop after the scenarios")
	nats := f.String("nats", "", "where NATS clients can connect, such as 127.0.0.1:4222; none: nowhere")
	if err := parse(f, args); err != nil {
		return err
	}
	settings, err := service.ReadSettings()
	if err != nil {
		return err
	}
	// The story is the output; the log adds what went wrong, some of it on purpose.
	level := settings.LogLevel
	if os.Getenv("LOG_LEVEL") == "" {
		level = slog.LevelError
	}
	if os.Getenv("ORDER_DEADLINE") == "" {
		settings.OrderDeadline = demo.OrderDeadline
	}
	return demo.Run(ctx, demo.Options{
		Store: *store, Once: *once, NATSAddr: *nats, HTTPAddr: settings.HTTPAddr, Settings: settings,
		Out: os.Stdout, Color: colorful(os.Stdout), Log: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}),
	})
}

func provision(ctx context.Context, args []string) error {
	if err := parse(flags("provision"), args); err != nil {
		return err
	}
	return administer(ctx, "provision", "provision", func(ctx context.Context, rt *service.Runtime) error {
		err := stream.Provision(ctx, rt.Stream.JetStream(), stream.Topology{
			Replicas: rt.Settings.Replicas, Durables: app.Durables(),
		})
		if err == nil {
			fmt.Println("ordertrail: streams, consumers and buckets are there")
		}
		return err
	})
}

func restock(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("restock: want an SKU and a number of units, such as: go run . restock LAST-ONE 5")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 1 {
		return fmt.Errorf("restock: %q is not a number of units, which is 1 or more", args[1])
	}
	if _, ok := catalog.Find(args[0]); !ok {
		var skus []string
		for _, p := range catalog.Products() {
			skus = append(skus, p.SKU)
		}
		return fmt.Errorf("restock: there is no product %q: %s are", args[0], strings.Join(skus, ", "))
	}
	return administer(ctx, "restock", operator, func(ctx context.Context, rt *service.Runtime) error {
		if err := rt.Stream.Restock(ctx, args[0], n); err != nil {
			return err
		}
		fmt.Printf("ordertrail: %d more of %s\n", n, args[0])
		return nil
	})
}

// operator is the user of nats/nats.conf for what people do; that which makes
// streams has another.
const operator = "operator"

// administer connects to the NATS server at NATS_URL and works there. Its answers
// come to the user's inbox.
func administer(ctx context.Context, name, user string, work func(context.Context, *service.Runtime) error) error {
	settings, err := service.ReadSettings()
	if err != nil {
		return err
	}
	rt, err := service.NewRuntime(ctx, service.Config{Name: name, User: user, Settings: settings, Tracing: []telemetry.Option{telemetry.WithConsoleWriter(os.Stderr)}})
	if err != nil {
		return err
	}
	err = work(ctx, rt)
	stopping, cancel := app.StopTimeout(ctx)
	defer cancel()
	if closeErr := rt.Close(stopping); err == nil {
		err = closeErr
	}
	return err
}

func runLoad(ctx context.Context, args []string) error {
	f := flags("load")
	o := load.Options{Out: os.Stdout}
	f.StringVar(&o.URL, "url", "http://127.0.0.1:8080", "the shop's API")
	f.IntVar(&o.Orders, "orders", 1000, "how many orders to place")
	f.IntVar(&o.Concurrency, "concurrency", 16, "how many customers at once: each places an order and waits for its end")
	f.BoolVar(&o.Burst, "burst", false, "place all orders first, as fast as the shop takes them, and then wait for their ends")
	f.DurationVar(&o.Every, "every", 0, "instead: place an order every so often, such as 1s, of each scenario in turn, until Ctrl-C")
	if err := parse(f, args); err != nil {
		return err
	}
	if o.Every != 0 {
		return load.Steady(ctx, o)
	}
	return load.Run(ctx, o)
}

// healthTimeout is how long healthcheck waits for an answer.
const healthTimeout = 3 * time.Second

// healthcheck is for containers that have no other program to ask with.
func healthcheck(ctx context.Context, args []string) error {
	if len(args) != 1 || !strings.HasPrefix(args[0], "http://") {
		return fmt.Errorf("healthcheck: want a URL, such as: go run . healthcheck http://127.0.0.1:8080/readyz")
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s: %s", args[0], answer.Status)
	}
	return nil
}
