package docs

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// transcript is a running demo and a shell that talks to it.
type transcript struct {
	story     systemtest.Output
	url       string
	variables string // what earlier commands of the document left in the shell
}

// demo starts the demo on the first call, and returns its output.
func (tr *transcript) demo(t *testing.T) *systemtest.Output {
	t.Helper()
	if tr.url != "" {
		return &tr.story
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- demo.Run(ctx, demo.Options{Out: &tr.story, Log: slog.DiscardHandler, Settings: service.Settings{HTTPAddr: "127.0.0.1:0", OrderDeadline: demo.OrderDeadline}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("demo: %v", err)
		}
	})
	serving := regexp.MustCompile(`Try:\n  curl http://(\S+)/orders`)
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if found := serving.FindStringSubmatch(tr.story.String()); found != nil {
			tr.url = found[1]
			return &tr.story
		}
		if time.Now().After(deadline) {
			t.Fatalf("the demo does not serve after 30 s:\n%s", &tr.story)
		}
	}
}

// trail returns what the command trail prints of the demo's first order.
func (tr *transcript) trail(t *testing.T) string {
	t.Helper()
	order := regexp.MustCompile(`happy +([0-9a-f-]{36})  as expected`).FindStringSubmatch(tr.demo(t).String())
	if order == nil {
		t.Fatalf("the demo names no happy order:\n%s", &tr.story)
	}
	story, err := demo.Shop{URL: "http://" + tr.url, Client: http.DefaultClient}.Trail(t.Context(), order[1])
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := ordertrail.Write(&printed, story, trail.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return printed.String()
}

// shell runs commands against the demo, and returns their output.
func (tr *transcript) shell(t *testing.T, commands string) string {
	t.Helper()
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	tr.demo(t)
	const here = "localhost:8080"
	commands = strings.ReplaceAll(commands, here, tr.url)
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", tr.variables+commands+"\necho; declare -p ORDER 2>/dev/null >&3 || true")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{w}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	_ = w.Close()
	if err != nil {
		t.Errorf("%v: %s%s\n%s", err, out, &stderr, commands)
	}
	var declared bytes.Buffer
	if _, err := declared.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if strings.HasPrefix(declared.String(), "declare") {
		tr.variables = declared.String()
	}
	if len(bytes.TrimSpace(out)) == 0 {
		t.Errorf("the commands print nothing:\n%s", commands)
	}
	return strings.ReplaceAll(string(out), tr.url, here)
}

// changing lists the parts of the output that differ between runs, and their
// replacements.
var changing = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b([0-9a-f]{32}|[0-9a-f]{16})\b`), "SPAN"},
	{regexp.MustCompile(`order …[0-9a-f]{6}|trace [0-9a-f]{8}…`), "ID"},
	{regexp.MustCompile(`\+?\d+(\.\d+)? (ms|µs|s)\b`), "TIME"},
	{regexp.MustCompile(`, TIME later|  \*|, \*`), ""}, // which consumer waits, and which outcome comes last
	{regexp.MustCompile(`payments\.\d+`), "payments.N"},
	{regexp.MustCompile(`"sequence":\d+`), `"sequence":N`},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "URL"},
	{regexp.MustCompile(`[ \t\r]+`), " "},
}

func normal(s string) string {
	for _, c := range changing {
		s = c.pattern.ReplaceAllString(s, c.by)
	}
	return s
}

// compare reports the lines of a document that were not printed. It ignores the order of
// lines, because the order of events differs between runs. […] stands for any text.
func compare(t *testing.T, b block, printed string) {
	t.Helper()
	printed = normal(printed)
	for line := range strings.Lines(b.output) {
		for _, part := range strings.Split(line, "[…]") {
			if part = strings.TrimSpace(normal(part)); !strings.Contains(printed, part) {
				t.Errorf("%s shows\n\t%s\nbut the output is\n%s", b.document, part, printed)
			}
		}
	}
}
