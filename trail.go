package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/trail"
)

// trailTimeout bounds the wait of trail for an answer.
const trailTimeout = 10 * time.Second

var traceOrSpan = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{16})$`)

// trailCommand prints an order's trail. The id of a trace that belongs to several orders
// prints a list of them.
func trailCommand(f *flag.FlagSet) cli.Run {
	shop := demo.Shop{Client: http.DefaultClient}
	parents := f.Bool("parents", false, "print it as parents alone would draw it, without links, and what that loses")
	f.StringVar(&shop.URL, "url", shopURL, "`URL` of the shop, default "+shopURL)
	return func(ctx context.Context, out io.Writer, args []string) error {
		if len(args) > 1 {
			return cli.Usagef("trail: unexpected %q", args[1])
		}
		id := ""
		if len(args) == 1 {
			id = strings.ToLower(args[0])
		}
		if !event.IsOrderID(id) && !traceOrSpan.MatchString(id) {
			return cli.Usagef("trail: want the id of an order, of a trace or of a span, such as: go run . trail 01a20482-ab51-759f-8537-365521a88cb5")
		}
		if _, err := cli.URL(shop.URL, shopURL); err != nil {
			return fmt.Errorf("trail: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, trailTimeout)
		defer cancel()
		if traceOrSpan.MatchString(id) {
			orders, err := shop.Locate(ctx, id)
			if err != nil {
				return fmt.Errorf("trail: %w", err)
			}
			if len(orders) != 1 {
				fmt.Fprintf(out, "%s belongs to %s:\n", id, trail.Counted(len(orders), "order"))
				for _, o := range orders {
					fmt.Fprintln(out, "  "+o)
				}
				return nil
			}
			id = orders[0]
		}
		t, err := shop.Trail(ctx, id)
		if err != nil {
			return fmt.Errorf("trail: %w", err)
		}
		if *parents {
			t.Story = *trail.Parents(&t.Story)
		}
		return ordertrail.Write(out, t, trail.WriteOptions{Color: cli.Colorful(os.Stdout), Columns: cli.Columns(os.Stdout)})
	}
}
