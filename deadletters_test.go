package main

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/trail"
)

// Any publisher may write control characters into a dead letter, which an operator reads
// at a terminal.
func TestDeadLettersDoNotCommandTheTerminal(t *testing.T) {
	const clear = "\x1b[2J\u009b2J\x7f" // U+009B is ESC [ in one
	letter := stream.DeadLetter{
		ID: "payments.1", Time: time.Unix(1, 0), Subject: "orders.created." + clear, Stream: "ORDERS", Consumer: "payments",
		Reason: "error" + clear, Error: "no card named " + clear + "\nDELIVERIES", Span: clear,
		Header: nats.Header{"ce-type" + clear: {clear}}, Data: []byte(`{"a":"` + "\u009b2J" + `"}`),
	}
	for name, print := range map[string]func(io.Writer) error{
		"list": func(out io.Writer) error { return printDeadLetters(out, []stream.DeadLetter{letter}) },
		"show": func(out io.Writer) error { return printDeadLetter(out, letter) },
	} {
		var out bytes.Buffer
		if err := print(&out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.ContainsAny(out.Bytes(), clear[:1]+"\u009b\x7f") {
			t.Errorf("%s prints %q", name, &out)
		}
		if name == "list" && bytes.Count(out.Bytes(), []byte("\n")) != 3 {
			t.Errorf("a dead letter is not listed in three lines: %q", &out)
		}
	}
}

// FuzzPrintDeadLetter prints any dead letter: the terminal gets no control characters, and
// the list has three lines for each.
func FuzzPrintDeadLetter(f *testing.F) {
	f.Add("payments", "1", "orders.created.019a0000-0000-7000-8000-000000000001", "ORDERS", "permanent", "no card", uint64(5), "ce-id", "1", []byte(`{"a":[1,{}]}`))
	f.Add("pay\x1b[2Jments", "\u009b", "\r", "\n", "\x7f", strings.Repeat("\u202e", 300), uint64(math.MaxUint64), "\n", "\x1b]0;\a", []byte("\x1b\xff"))
	f.Fuzz(func(t *testing.T, consumer, number, subject, of, reason, cause string, deliveries uint64, name, value string, data []byte) {
		l := stream.DeadLetter{
			ID: consumer + "." + number, Consumer: consumer, Subject: subject, Stream: of, Reason: reason, Error: cause,
			Sequence: deliveries, Deliveries: deliveries, Span: value, Header: nats.Header{name: {value, value}}, Data: data,
		}
		var list, show bytes.Buffer
		if err := errors.Join(printDeadLetters(&list, []stream.DeadLetter{l}), printDeadLetter(&show, l)); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(list.String(), "\n"); len(lines) != 4 {
			t.Errorf("listed as %q", lines)
		}
		for _, line := range strings.Split(list.String()+show.String(), "\n") {
			if line != trail.Printable(line) {
				t.Errorf("the terminal gets %q", line)
			}
		}
	})
}
