// Command scaling measures how ordertrail grows with the orders that its stream
// holds. For each number of orders it fills a store with real events, runs NATS and
// the six services on it as two processes, stops them in order and by SIGKILL, and
// prints a row of a table:
//
//	go run ./test/scaling -orders 1000,10000,100000
//
// A million orders need about 6 GB of disk, 4 GB of memory and 15 minutes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scaling:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	sizes := flag.String("orders", "1000,10000", "`NUMBERS` of orders, ascending, separated by commas")
	dir := flag.String("dir", "", "`DIR` of the store, which is kept; default: a temporary one")
	only := flag.Bool("fill", false, "fill the store with the last number of orders, and measure nothing")
	role := flag.String("role", "", "used by the command for its own processes")
	flag.Parse()
	if *role != "" {
		return child(ctx, *role, flag.Args())
	}
	if *dir == "" {
		temp, err := os.MkdirTemp("", "scaling-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(temp) }()
		*dir = filepath.Join(temp, "store")
	}
	recorded, err := record(ctx)
	if err != nil {
		return err
	}
	if !*only {
		fmt.Println(heading)
	}
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(size))
		if err != nil || n < 1 {
			return fmt.Errorf("-orders: want numbers of 1 or more, not %q", size)
		}
		if err := fill(ctx, *dir, recorded, n); err != nil {
			return err
		}
		if *only {
			continue
		}
		row, err := measure(ctx, *dir, n)
		if err != nil {
			return fmt.Errorf("%d orders: %w", n, err)
		}
		fmt.Println(row)
	}
	return nil
}
