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

// printed is a story with everything that Write prints: a redelivery, a refusal, an undo,
// an outside caller's link, links to missing spans, a batch, and gaps.
func printed(t *testing.T) *trail.Story {
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
	for name, o := range map[string]trail.WriteOptions{"full": {}, "brief": {Brief: true}, "wide": {Columns: 120}, "parents": {}} {
		story := printed(t)
		if name == "parents" {
			story = trail.Parents(story)
		}
		var text strings.Builder
		if err := trail.Write(&text, "order 1", story, o); err != nil {
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
		for line := range strings.Lines(text.String()) {
			if n := trail.Width(strings.TrimSuffix(line, "\n")); n > max(o.Columns, trail.Columns) {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
		// Colour changes nothing else.
		o.Color = true
		var colored strings.Builder
		if err := trail.Write(&colored, "order 1", story, o); err != nil {
			t.Fatal(err)
		}
		plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored.String(), "")
		if plain != text.String() || strings.Count(colored.String(), "\x1b[") < 20 {
			t.Errorf("%s: with colour:\n%s", name, colored.String())
		}
	}
}

// Names from other programs cannot control the terminal.
func TestWriteNoControls(t *testing.T) {
	const evil = "\x1b]0;title\x07\n\u202e"
	s := printed(t)
	for i := range s.Lanes {
		for j := range s.Lanes[i].Spans {
			n := &s.Lanes[i].Spans[j]
			n.Service, n.Name, n.ErrorType = n.Service+evil, n.Name+evil, n.ErrorType+evil
		}
	}
	for i := range s.Edges {
		s.Edges[i].Relationship, s.Edges[i].EventType = s.Edges[i].Relationship+evil, s.Edges[i].EventType+evil
	}
	for i := range s.CriticalPath.Segments {
		s.CriticalPath.Segments[i].Service, s.CriticalPath.Segments[i].Name = "a"+evil, "b"+evil
	}
	s.CriticalPath.To += evil
	s.AddGap(trail.Gap{Kind: "x", Detail: "a gap" + evil})
	for _, o := range []trail.WriteOptions{{}, {Brief: true}} {
		for _, story := range []*trail.Story{s, trail.Parents(s)} {
			var text strings.Builder
			if err := trail.Write(&text, "order 1"+evil, story, o); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(text.String(), "\x1b\x07\u202e") || strings.Contains(text.String(), "title.\n.") {
				t.Errorf("%q", text.String())
			}
		}
	}
}

// A span takes few lines, however deep it lies: the indent has bounds, and what follows it is
// not broken at each word.
func TestWriteDeep(t *testing.T) {
	const hops = 300
	var found trail.Spans
	for n := range hops {
		s := numbered(n, n-1)
		s.Name = "process the message that was sent"
		if n == 0 {
			s.Links = nil
		}
		found.Spans = append(found.Spans, s)
	}
	var text strings.Builder
	if err := trail.Write(&text, "deep", trail.Parents(trail.Stitch(found, trail.Options{}, numbered(0).Ref)), trail.WriteOptions{Brief: true}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(text.String(), "\n"); lines > 3*hops || text.Len() > 300*hops {
		t.Errorf("%d spans take %d lines of %d bytes", hops, lines, text.Len())
	}
	for line := range strings.Lines(text.String()) {
		if n := trail.Width(strings.TrimSuffix(line, "\n")); n > trail.Columns || strings.TrimSpace(line) == "" {
			t.Fatalf("%d columns: %q", n, line)
		}
	}
}

// Wide characters take two columns, styles none, and a long word stays whole.
func TestWrap(t *testing.T) {
	if got := trail.Width("\x1b[31m注文 é\x1b[0m"); got != 6 {
		t.Errorf("width is %d, want 6", got)
	}
	wide, long := strings.Repeat("注", 30), strings.Repeat("x", 100)
	if got, want := trail.Wrap("  "+wide+" "+wide+" "+long, 4), "  "+wide+"\n    "+wide+"\n    "+long; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := trail.Wrap(strings.Repeat("a", 75)+" 1\u00a0second", 2); !strings.HasSuffix(got, "a\n  1 second") {
		t.Errorf("got %q", got)
	}
	if got := trail.Wrap("a"+strings.Repeat(" ", 200)+"b  c", 2); got != "a\n  b  c" {
		t.Errorf("many spaces: %q", got)
	}
	const words = 200_000 // minutes, if each of them copies those before
	if got := trail.Wrap(strings.Repeat("long ", words), 2); strings.Count(got, "long") != words {
		t.Error("words are lost")
	}
	if got := trail.Cut("a注文", 4); got != "a注" {
		t.Errorf("cut: %q", got)
	}
}
