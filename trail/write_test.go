package trail_test

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/trail"
)

var update = flag.Bool("update", false, "write the golden texts anew")

// told is an order with all that a trail can tell: a retry, a refusal, an undo, a
// stranger's link, links that lead nowhere, a batch, and what is missing.
func told(t *testing.T) *trail.Trail {
	s, by := happy(1)
	by["post"].Links = append(by["post"].Links, traceLink(newStory(9).span("x", "x", oteltrace.SpanKindClient, 0, 1).SpanContext))
	fail(by["pay"], "timeout")
	again := s.process("payments", by["created"], 2, 121, 125)
	refund := s.child(again, "refund card", oteltrace.SpanKindClient, 122, 123)
	refund.Attributes = append(refund.Attributes, attribute.Bool("order.compensation", true))
	by["book"].Attributes = append(by["book"].Attributes, attribute.String("call.refused", "undeliverable"))
	for i, stub := range s.spans {
		if stub == by["reserved"] {
			s.spans = append(s.spans[:i], s.spans[i+1:]...)
			break
		}
	}
	o := s.order(events(by)...)
	o.State, o.Reason, o.Refunded = "cancelled", "undeliverable", true
	o.Open, o.Now = true, s.at(1000)
	return stitched(t, s, o)
}

func TestWrite(t *testing.T) {
	for name, o := range map[string]trail.WriteOptions{"full": {}, "brief": {Brief: true}} {
		var text strings.Builder
		if err := trail.Write(&text, told(t), o); err != nil {
			t.Fatal(err)
		}
		golden := "testdata/write-" + name + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if text.String() != string(want) {
			t.Errorf("%s (-update writes it anew):\n%s", golden, text.String())
		}
		// Colour adds nothing but itself.
		o.Color = true
		var colored strings.Builder
		if err := trail.Write(&colored, told(t), o); err != nil {
			t.Fatal(err)
		}
		plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored.String(), "")
		if plain != text.String() || strings.Count(colored.String(), "\x1b[") < 20 {
			t.Errorf("%s: with colour:\n%s", name, colored.String())
		}
	}
}

// A trail of nothing can be told too.
func TestWriteNothing(t *testing.T) {
	var text strings.Builder
	if err := trail.Write(&text, trail.Stitch(trail.Order{ID: "x"}, trail.Spans{}), trail.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := text.String(); !strings.Contains(got, "state unknown  0 spans in 0 traces") || !strings.Contains(got, "The stream has no such order") {
		t.Errorf("%s", got)
	}
}
