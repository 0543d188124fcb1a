package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

const deadLettersUsage = "deadletters: want list, show ID, redrive ID… or redrive --all"

// deadLetters is the operator's view of what the services could not handle.
func deadLetters(ctx context.Context, args []string) error {
	verb := "list"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	all := len(args) == 1 && strings.TrimLeft(args[0], "-") == "all"
	switch {
	case verb == "list" && len(args) == 0,
		verb == "show" && len(args) == 1,
		verb == "redrive" && len(args) > 0:
	default:
		return errors.New(deadLettersUsage)
	}
	return administer(ctx, "deadletters", operator, func(ctx context.Context, rt *service.Runtime) error {
		switch {
		case verb == "list":
			letters, err := rt.Stream.DeadLetters(ctx)
			if err != nil {
				return err
			}
			return printDeadLetters(os.Stdout, letters)
		case verb == "show":
			letter, err := rt.Stream.DeadLetter(ctx, args[0])
			if err != nil {
				return err
			}
			return printDeadLetter(os.Stdout, letter)
		case all:
			letters, err := rt.Stream.DeadLetters(ctx)
			if err != nil {
				return err
			}
			args = nil
			for _, l := range letters {
				args = append(args, l.ID)
			}
		}
		var failed []error
		for _, id := range args {
			err := rt.Stream.Redrive(ctx, id)
			if all && errors.Is(err, stream.ErrNoDeadLetter) {
				continue // somebody else was faster
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			consumer, _, _ := strings.Cut(id, ".")
			fmt.Printf("ordertrail: %s was sent to %s again\n", id, consumer)
		}
		if len(args) == 0 {
			fmt.Println("ordertrail: no dead letters")
		}
		return errors.Join(failed...)
	})
}

// printable is one line of text that does not command the terminal, whatever a
// stranger has put into it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, s)
}

func printDeadLetters(out io.Writer, letters []stream.DeadLetter) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintln(out, "ordertrail: no dead letters")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tGIVEN UP\tEVENT\tDELIVERIES\tREASON\tERROR")
	for _, l := range letters {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%.100s\n",
			l.ID, l.Time.Format(time.DateTime), printable(l.Subject), l.Deliveries, printable(l.Reason), printable(l.Error))
	}
	return table.Flush()
}

func printDeadLetter(out io.Writer, l stream.DeadLetter) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"dead letter", l.ID},
		{"event", fmt.Sprintf("%s (delivered as sequence %d of %s)", l.Subject, l.Sequence, l.Stream)},
		{"given up by", fmt.Sprintf("%s at %s, after %d deliveries", l.Consumer, l.Time.Format(time.RFC3339), l.Deliveries)},
		{"reason", l.Reason},
		{"error", l.Error},
		{"failed span", l.Span},
	} {
		fmt.Fprintf(table, "%s\t%s\n", row[0], printable(row[1]))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nheaders")
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		if strings.HasPrefix(name, "Nats-") || strings.HasPrefix(name, "deadletter-") {
			continue // not the event's own; above is what they say
		}
		for _, value := range l.Header[name] {
			fmt.Fprintf(out, "  %s: %s\n", printable(name), printable(value))
		}
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, l.Data, "  ", "  ") != nil {
		pretty.Reset()
		fmt.Fprintf(&pretty, "%q", l.Data)
	}
	lines := strings.Split(pretty.String(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i]) // a string of JSON may hold what has no looks too
	}
	_, err := fmt.Fprintf(out, "\npayload\n  %s\n\nsend it again: go run . deadletters redrive %s\n", strings.Join(lines, "\n"), l.ID)
	return err
}
