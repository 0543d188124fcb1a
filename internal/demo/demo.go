// Package demo runs all services in one process, places one order per scenario and
// prints its events as they are stored.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/trail"
)

// Options are the options of the demo.
type Options struct {
	Store    string // directory to keep the streams in; "" for a temporary one
	Once     bool   // stop after the scenarios
	NATSAddr string // for NATS clients; "": DefaultNATSAddr if it is free; NoNATS: no clients
	Settings service.Settings
	Out      io.Writer
	Color    bool // Out understands ANSI escape sequences
	Log      slog.Handler
}

// OrderDeadline is short, because the scenario "poison" waits for it.
const OrderDeadline = 3 * time.Second

// scenarioTimeout bounds one scenario.
const scenarioTimeout = 20 * time.Second

// ErrScenario is the error of Run after a scenario that did not end as it should.
var ErrScenario = errors.New("not every scenario ended as it should")

var errInterrupted = errors.New("interrupted before all scenarios were played")

// interrupted returns how Run ends after Ctrl-C.
func (o Options) interrupted() error {
	if o.Once {
		return errInterrupted
	}
	return nil
}

// Run plays the scenarios, then serves until ctx ends, unless Options.Once is set.
func Run(ctx context.Context, o Options) (err error) {
	server, natsURL, err := startNATS(o)
	if err != nil {
		return err
	}
	defer server.Close()
	sys, err := app.Start(ctx, app.Config{
		Connect: server.Connect, Settings: o.Settings, Log: o.Log, HTTPAddr: cmp.Or(o.Settings.HTTPAddr, orders.DefaultHTTPAddr),
		// Standard output is for the story.
		Tracing: []telemetry.Option{telemetry.WithConsoleWriter(os.Stderr)},
	})
	if err != nil && ctx.Err() != nil {
		return o.interrupted()
	}
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := app.StopTimeout(ctx)
		defer cancel()
		err = errors.Join(err, sys.Stop(stopping))
	}()

	client := sys.Client
	extent, err := client.Extent(ctx)
	if err != nil && ctx.Err() != nil {
		return o.interrupted()
	}
	if err != nil {
		return err
	}
	out := &narrator{out: o.Out}
	following, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() { followed <- out.follow(following, client, extent.End()) }()
	defer func() { stop(); err = errors.Join(err, <-followed) }()

	out.printf("ordertrail: six services on an embedded NATS server.\nThe shop's API is at %s\n", sys.URL)
	err = play(ctx, out, Shop{sys.URL, http.DefaultClient}, client, trail.WriteOptions{Brief: true, Color: o.Color})
	switch {
	case ctx.Err() != nil:
		return o.interrupted()
	}
	if o.Once || err != nil && !errors.Is(err, ErrScenario) {
		return err
	}
	out.brief()
	out.printf("\nServing until Ctrl-C. Open %[1]s in a browser. Try:\n  curl %[1]s/orders\n  curl %[1]s/catalog\n  curl %[1]s/analytics\n", sys.URL)
	switch natsURL {
	case "":
		out.printf("No NATS client can connect: %s\n", why(o))
	default:
		out.printf("In another terminal, with the password of this run for NATS, try:\n"+
			"  export NATS_URL=%s\n  go run . deadletters\n  go run . replay analytics\n", natsURL)
	}
	<-ctx.Done()
	out.printf("\nStopping: %v\n", context.Cause(ctx))
	return err
}

// play places one order per scenario, one after the other, and prints a summary.
func play(ctx context.Context, out *narrator, shop Shop, client *stream.Client, trails trail.WriteOptions) error {
	var summary strings.Builder
	failed := false
	for _, sc := range Scenarios() {
		out.printf("\n%s: %s\n", sc.Name, sc.Story)
		order, err := Play(ctx, shop, sc)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if order.ID == "" { // the shop takes no orders
			return fmt.Errorf("%s: %w", sc.Name, err)
		}
		verdict := "as expected"
		if err != nil {
			verdict, failed = "NOT AS EXPECTED: "+err.Error(), true
		}
		if n := len(order.Events); n > 0 {
			await(ctx, func() bool { return out.reached(order.Events[n-1].Sequence) })
		}
		letters, err := client.DeadLetters(ctx)
		if err != nil {
			return err
		}
		for _, l := range letters {
			if t, id, err := event.ParseSubject(l.Subject); err == nil && id == order.ID {
				out.printf("  dead letter %s: %s, given up after %s\n", l.ID, t, trail.Counted(int(l.Deliveries), "delivery"))
				out.printf("%s\n", trail.Wrap("    "+l.Error, 4))
			}
		}
		if err := printTrail(ctx, out, shop, order.ID, trails); err != nil {
			return err
		}
		line := fmt.Sprintf("  %-14s %s  %s", sc.Name, order.ID, verdict)
		fmt.Fprintf(&summary, "%s\n      %s: %s, %s\n", trail.Wrap(line, 6), outcome(order), trail.Counted(len(order.Events), "event"), trail.Counted(traces(order), "trace"))
	}
	out.printf("\nThe orders:\n%s", summary.String())
	if failed {
		return ErrScenario
	}
	return nil
}

// printTrail prints an order's trail once it is complete, except for its deadline.
func printTrail(ctx context.Context, out *narrator, shop Shop, id string, o trail.WriteOptions) (err error) {
	var t *ordertrail.Trail
	await(ctx, func() bool {
		t, err = shop.Trail(ctx, id)
		return err != nil || !slices.ContainsFunc(t.Gaps, func(g trail.Gap) bool { return g.Pending && g.Kind != ordertrail.GapDeadline })
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := ordertrail.Write(&text, t, o); err != nil {
		return err
	}
	out.printf("\n%s", text.String())
	return nil
}

// Play places a scenario's order and waits for its end. It returns an error that names
// the difference if the order does not end as the scenario wants.
func Play(ctx context.Context, shop Shop, sc Scenario) (orders.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, scenarioTimeout)
	defer cancel()
	order, err := shop.Place(ctx, sc)
	if err == nil && sc.Cancel {
		// After the reservation, so that the events are always the same.
		order, err = shop.Await(ctx, order.ID, has(event.InventoryReserved))
		if err == nil {
			_, err = shop.Cancel(ctx, order.ID)
		}
	}
	if err != nil {
		return order, err
	}
	now, err := shop.Await(ctx, order.ID, func(o orders.Order) bool { return sc.Want.Check(o) == nil })
	if err != nil {
		return now, errors.Join(sc.Want.Check(now), err)
	}
	return now, nil
}

// has reports whether an order has an event of type t.
func has(t event.Type) func(orders.Order) bool {
	return func(o orders.Order) bool {
		return slices.ContainsFunc(o.Events, func(e orders.Event) bool { return e.Type == t })
	}
}

// Check returns an error that names the difference between o and w; nil if there is none.
func (w Want) Check(o orders.Order) error {
	if o.State != w.State || o.Reason != w.Reason || o.Refunded != w.Refunded {
		return fmt.Errorf("the order is %s, not %s", outcome(o), outcome(orders.Order{State: w.State, Reason: w.Reason, Refunded: w.Refunded}))
	}
	want := slices.Sorted(slices.Values(w.Events))
	var got []event.Type
	for _, e := range o.Events {
		got = append(got, e.Type)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		return fmt.Errorf("the order's events are %s, not %s", got, want)
	}
	return nil
}

func outcome(o orders.Order) string {
	s := o.State
	if o.Reason != "" {
		s += " (" + o.Reason + ")"
	}
	if o.Refunded {
		s += ", refunded"
	}
	return s
}

// traces counts the traces that the order's events were published in.
func traces(o orders.Order) int {
	seen := map[string]bool{}
	for _, e := range o.Events {
		if e.TraceID != "" {
			seen[e.TraceID] = true
		}
	}
	return len(seen)
}

// await polls until done, for a second at most. It only keeps the lines in order.
func await(ctx context.Context, done func() bool) {
	for range 100 {
		if done() || ctx.Err() != nil {
			return
		}
		<-time.After(pollEvery)
	}
}
