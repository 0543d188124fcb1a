package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/trail"
)

// deadLettersCommand lists and shows the dead letters, and sends them again.
func deadLettersCommand(f *flag.FlagSet) cli.Run {
	all := f.Bool("all", false, "redrive all dead letters")
	wait := waitFlag(f)
	return func(ctx context.Context, out io.Writer, args []string) error {
		verb, ids := "list", args
		if len(args) > 0 {
			verb, ids = args[0], args[1:]
		}
		var work func(context.Context, *stream.Client) error
		switch {
		case verb == "list" && len(ids) == 0 && !*all:
			work = func(ctx context.Context, c *stream.Client) error { return listDeadLetters(ctx, out, c) }
		case verb == "show" && len(ids) == 1 && !*all:
			work = func(ctx context.Context, c *stream.Client) error { return showDeadLetter(ctx, out, c, ids[0]) }
		case verb == "redrive" && (len(ids) > 0) != *all:
			work = func(ctx context.Context, c *stream.Client) error { return redrive(ctx, out, c, ids) }
		default:
			return cli.Usagef("deadletters: want list, show ID, redrive ID… or redrive --all")
		}
		for _, id := range ids { // all of them, before the first is sent
			if err := stream.CheckDeadLetterID(id); err != nil {
				return cli.Usagef("deadletters: %w", err)
			}
		}
		return administer(ctx, "deadletters", operator, *wait, func(ctx context.Context, rt *service.Runtime) error { return work(ctx, rt.Stream) })
	}
}

// redrive sends dead letters to their consumers again: those with the ids, or all of
// them if there are no ids.
func redrive(ctx context.Context, out io.Writer, c *stream.Client, ids []string) error {
	all := len(ids) == 0
	if all {
		letters, err := c.DeadLetters(ctx)
		if err != nil {
			return err
		}
		for _, l := range letters {
			ids = append(ids, l.ID)
		}
	}
	var failed []error
	for _, id := range ids {
		err := c.Redrive(ctx, id)
		switch consumer, _, _ := strings.Cut(id, "."); {
		case err == nil:
			fmt.Fprintf(out, "ordertrail: %s was sent to %s again\n", trail.Printable(id), trail.Printable(consumer))
		case all && errors.Is(err, stream.ErrNoDeadLetter): // another operator has sent it
		default:
			failed = append(failed, err)
		}
	}
	if len(ids) == 0 {
		fmt.Fprintln(out, "ordertrail: no dead letters")
	}
	return errors.Join(failed...)
}

func listDeadLetters(ctx context.Context, out io.Writer, c *stream.Client) error {
	letters, err := c.DeadLetters(ctx)
	if err != nil {
		return err
	}
	return printDeadLetters(out, letters)
}

func showDeadLetter(ctx context.Context, out io.Writer, c *stream.Client, id string) error {
	letter, err := c.DeadLetter(ctx, id)
	if err != nil {
		return err
	}
	return printDeadLetter(out, letter)
}

// printDeadLetters prints three lines for each letter, which fit a terminal.
func printDeadLetters(out io.Writer, letters []stream.DeadLetter) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintln(out, "ordertrail: no dead letters")
		return err
	}
	for _, l := range letters {
		why := ""
		if l.Reason != stream.ReasonDeliveries {
			why = ": " + l.Reason
		}
		for _, line := range []string{
			fmt.Sprintf("%s  given up at %s after %s%s", l.ID, l.Time.Format(time.DateTime), trail.Counted(int(l.Deliveries), "delivery"), why),
			"    " + l.Subject,
			"    " + l.Error,
		} {
			if _, err := fmt.Fprintln(out, trail.Cut(trail.Printable(line), trail.Columns)); err != nil {
				return err
			}
		}
	}
	return nil
}

func printDeadLetter(out io.Writer, l stream.DeadLetter) error {
	for _, row := range [][2]string{
		{"dead letter", l.ID},
		{"event", l.Subject},
		{"delivered as", fmt.Sprintf("sequence %d of %s", l.Sequence, l.Stream)},
		{"given up by", l.Consumer},
		{"at", fmt.Sprintf("%s, after %s", l.Time.Format(time.RFC3339), trail.Counted(int(l.Deliveries), "delivery"))},
		{"reason", l.Reason},
		{"error", l.Error},
		{"failed span", l.Span},
	} {
		fmt.Fprintln(out, trail.Wrap(fmt.Sprintf("%-13s %s", row[0], trail.Printable(row[1])), 14))
	}
	fmt.Fprintln(out, "\nheaders")
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		if strings.HasPrefix(name, "Nats-") || strings.HasPrefix(name, "deadletter-") {
			continue // not the event's own; the table above has their values
		}
		for _, value := range l.Header[name] {
			fmt.Fprintln(out, trail.Wrap(fmt.Sprintf("  %s: %s", trail.Printable(name), trail.Printable(value)), 4))
		}
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, l.Data, "  ", "  ") != nil {
		pretty.Reset()
		fmt.Fprintf(&pretty, "%q", l.Data)
	}
	lines := strings.Split(pretty.String(), "\n")
	for i := range lines {
		lines[i] = trail.Printable(lines[i]) // strings of JSON may hold control characters too
	}
	_, err := fmt.Fprintf(out, "\npayload\n  %s\n\nsend it again: go run . deadletters redrive %s\n", strings.Join(lines, "\n"), trail.Printable(l.ID))
	return err
}
