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

var update = flag.Bool("update", false, "rewrite the golden texts")

// told is a story with everything that Write prints: a redelivery, a refusal, an undo,
// an outside caller's link, links to missing spans, a batch, and gaps.
func told(t *testing.T) *trail.Story {
	s, by := happy(1)
	by["post"].Links = append(by["post"].Links, traceLink(newStory(9).span("x", "x", oteltrace.SpanKindClient, 0, 1).SpanContext))
	fail(by["pay"], "timeout")
	again := s.process("payments", by["created"], 2, 121, 125)
	refund := s.child(again, "refund card", oteltrace.SpanKindClient, 122, 123)
	by["book"].Attributes = append(by["book"].Attributes, attribute.String("call.refused", "undeliverable"))
	s.remove(by["reserved"])
	got := stitched(t, s)
	got.Find(refOf(refund)).Compensation = true
	got.AddGap(trail.Gap{Kind: "order_open", Pending: true, Detail: "More events will follow."})
	return got
}

func TestWrite(t *testing.T) {
	for name, o := range map[string]trail.WriteOptions{"full": {}, "brief": {Brief: true}} {
		var text strings.Builder
		if err := trail.Write(&text, "order 1", told(t), o); err != nil {
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
			t.Errorf("%s differs (-update rewrites it):\n%s", golden, text.String())
		}
		// Colour changes nothing else.
		o.Color = true
		var colored strings.Builder
		if err := trail.Write(&colored, "order 1", told(t), o); err != nil {
			t.Fatal(err)
		}
		plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored.String(), "")
		if plain != text.String() || strings.Count(colored.String(), "\x1b[") < 20 {
			t.Errorf("%s: with colour:\n%s", name, colored.String())
		}
	}
}
