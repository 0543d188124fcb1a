package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/trail"
)

// trailTimeout is how long trail waits for an answer.
const trailTimeout = 10 * time.Second

var traceOrSpan = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{16})$`)

// showTrail prints an order's trail, which is found from its id or that of any of its
// traces or spans.
func showTrail(ctx context.Context, args []string) error {
	f := flags("trail")
	client := ordertrail.Client{HTTP: http.DefaultClient}
	f.StringVar(&client.URL, "url", "http://127.0.0.1:8080", "the shop's API")
	id := ""
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		id, args = args[0], args[1:] // flags may come before and after
	}
	err := f.Parse(args)
	if err == nil && id == "" {
		id = f.Arg(0)
		err = f.Parse(f.Args()[min(1, f.NArg()):])
	}
	if err != nil || f.NArg() > 0 {
		return parse(f, args) // says what is wrong
	}
	ctx, cancel := context.WithTimeout(ctx, trailTimeout)
	defer cancel()
	switch {
	case traceOrSpan.MatchString(id):
		orders, err := client.Orders(ctx, id)
		if err != nil {
			return fmt.Errorf("trail: %w", err)
		}
		if len(orders) > 1 {
			fmt.Printf("%s belongs to %d orders:\n", id, len(orders))
			for _, o := range orders {
				fmt.Println("  " + o)
			}
			return nil
		}
		id = orders[0]
	case !event.IsOrderID(id):
		return errors.New("trail: want the id of an order, of a trace or of a span, such as: go run . trail 01a20482-ab51-759f-8537-365521a88cb5")
	}
	t, err := client.Trail(ctx, id)
	if err != nil {
		return fmt.Errorf("trail: %w", err)
	}
	return ordertrail.Write(os.Stdout, t, trail.WriteOptions{Color: colorful(os.Stdout)})
}

// colorful tells whether out is a terminal whose owner wants colour
// (https://no-color.org).
func colorful(out *os.File) bool {
	info, err := out.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
