package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/stream"
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
