// Package docs tests the documents: their commands run, their output is what one
// sees, their links lead somewhere, their code compiles.
package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/test/systemtest"

	// Read by their sources: a change of theirs is a reason to test again.
	_ "example.org/ordertrail/internal/telemetry"
)

// elsewhere says which test, or which section of .ci/run, runs a command that is
// not run here.
var elsewhere = map[string]string{
	"go run .":               "test/process: TestInterrupt",
	"go run . --once":        ".ci/run: demo",
	"go test ./...":          ".ci/run: tests",
	"go test ./test/browser": ".ci/run: tests",
	"go test ./test/browser -run Screenshots -screenshots": "test/browser: TestScreenshots",
	"go test -race ./...":       ".ci/run: tests with the race detector",
	".ci/run":                   ".ci/run: tests",
	"docker compose up --build": ".ci/run: docker-compose.yml",
	"docker compose up --build --scale payments=3 --scale fulfillment=3 --scale inventory=2": "test/compose: TestCompose",
	"docker compose --profile load up --build":                                               "test/compose: TestCompose",
	"docker compose stop":           "test/compose: TestCompose",
	"docker compose down":           "test/compose: TestCompose",
	"docker compose down --volumes": "test/compose: TestCompose",
	"docker compose -f docker-compose.yml -f docker-compose.cluster.yml up --build":  "test/compose: TestCluster",
	"docker compose -f docker-compose.yml -f docker-compose.cluster.yml stop nats-2": "test/compose: TestCluster",
	"scripts/verify-compose":       ".ci/run: containers",
	"docker compose up jaeger":     ".ci/run: docker-compose.yml",
	"go build -o bin/ . ./cmd/...": ".ci/run: binaries",
	"NATS_USER=admin NATS_PASSWORD=demo-admin bin/ordertrail provision": "test/process: TestReplicas",
	"go run . restock LAST-ONE 5":                                       "test/process: TestCommands",
	"go run . trail 01a20482-ab51-759f-8537-365521a88cb5":               "test/process: TestTrailCommand",
	"go run . deadletters":                                              "test/process: TestOperator",
	"go run . deadletters show payments.58":                             "test/process: TestOperator",
	"go run . deadletters redrive payments.58":                          "test/process: TestOperator",
	"go run . deadletters redrive --all":                                "test/process: TestOperator",
	"go run . replay analytics":                                         "test/process: TestOperator",
	"go run . load -burst -orders 20000 -concurrency 256":               "internal/load: TestComesBack",
	"go test ./test/chaos -run TestStressChaos -seed 41":                "test/chaos: TestStressChaos",
	"go test ./pkg/tracing -run='^$' -bench='Produce|Consume' -cpu=1 -benchtime=500x -count=40 | go -C pkg/tracing/peers run ./ratios": ".ci/run: cost of tracing, and of its peers",
	"go -C pkg/tracing/peers test -run='^$' -bench=. -cpu=1 -benchtime=500x -count=40 .":                                               ".ci/run: cost of tracing, and of its peers",
	"go run . load -orders 1000":                     "test/process: TestCommands",
	"go test -run='^$' -bench=. -benchtime=1x ./...": ".ci/run: benchmarks, once each",
	"for s in orders payments inventory fulfillment notify analytics; do NATS_USER=$s NATS_PASSWORD=demo-$s bin/$s & done": "test/process: TestReplicas",
	"go install github.com/nats-io/nats-server/v2@v2.15.2":                                                                 "test/process: build",
	"nats-server -c nats/nats.conf -a 127.0.0.1 -sd /tmp/ordertrail":                                                       "test/process: startNATS",
	"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 go run .":                                                           "test/process: TestRestartUnderLoad",
}

const root = "../.."

// block is a fenced code block.
type block struct {
	document, language, text string
	output                   string // the text block that follows a sh block, if it does at once
}

func documents(t *testing.T) []string {
	t.Helper()
	more, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{root + "/README.md"}, more...)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func blocks(t *testing.T) (all []block) {
	t.Helper()
	for _, document := range documents(t) {
		text, end := read(t, document), 0
		for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
			b := block{document: filepath.Base(document), language: text[m[2]:m[3]], text: text[m[4]:m[5]]}
			if b.language == "text" && end > 0 && strings.TrimSpace(text[end:m[0]]) == "" && all[len(all)-1].language == "sh" {
				all[len(all)-1].output = b.text
			}
			all, end = append(all, b), m[1]
		}
	}
	if len(all) < 10 {
		t.Fatalf("%d code blocks: the documents are not read well", len(all))
	}
	return all
}

// Commands with curl are run against the demo, and print what the document shows.
// Every other command is run elsewhere.
func TestCommands(t *testing.T) {
	run := &transcript{}
	var used []string
	for _, b := range blocks(t) {
		if b.language != "sh" {
			continue
		}
		printed := func() string { return run.demo(t).String() }
		if strings.Contains(b.text, "curl ") {
			out := run.shell(t, b.text)
			printed = func() string { return out }
		} else {
			for line := range strings.Lines(b.text) {
				line = strings.TrimSpace(line)
				if elsewhere[line] == "" {
					t.Errorf("%s: nothing runs %q: see the table in this test", b.document, line)
				}
				used = append(used, line)
			}
		}
		if b.output != "" {
			compare(t, b, printed())
		}
	}
	for command, by := range elsewhere {
		if !slices.Contains(used, command) {
			t.Errorf("no document has %q any more", command)
		}
		where, what, _ := strings.Cut(by, ": ")
		if where == ".ci/run" {
			if !strings.Contains(read(t, root+"/.ci/run"), "section '"+what+"'") {
				t.Errorf("%q: .ci/run has no section %q", command, what)
			}
			continue
		}
		sources := ""
		files, err := filepath.Glob(root + "/" + where + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			sources += read(t, f)
		}
		if !regexp.MustCompile(`(?m)^(func|var) ` + what + `\b`).MatchString(sources) {
			t.Errorf("%q: %s has no %s", command, where, what)
		}
	}
}

// transcript is a running demo and a shell that talks to it.
type transcript struct {
	story     systemtest.Output
	url       string
	variables string // what earlier commands of the document left in the shell
}

// demo starts the demo when it is first needed, and returns what it tells.
func (tr *transcript) demo(t *testing.T) *systemtest.Output {
	t.Helper()
	if tr.url != "" {
		return &tr.story
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- demo.Run(ctx, demo.Options{Out: &tr.story, HTTPAddr: "127.0.0.1:0", Log: slog.DiscardHandler, Settings: service.Settings{OrderDeadline: demo.OrderDeadline}})
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
			t.Fatalf("the demo does not serve:\n%s", &tr.story)
		}
	}
}

// shell runs commands, with the demo where the document says it is.
func (tr *transcript) shell(t *testing.T, commands string) string {
	t.Helper()
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s", tool)
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
		t.Errorf("prints nothing:\n%s", commands)
	}
	return strings.ReplaceAll(string(out), tr.url, here)
}

// changing is what differs from run to run, and what stands for it.
var changing = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b([0-9a-f]{32}|[0-9a-f]{16})\b`), "SPAN"},
	{regexp.MustCompile(`order …[0-9a-f]{6}|trace [0-9a-f]{8}…`), "ID"},
	{regexp.MustCompile(`\+?\d+(\.\d+)? (ms|µs|s)\b`), "TIME"},
	{regexp.MustCompile(`, TIME later|  \*|, \*`), ""}, // which consumer has to wait, and which outcome comes last
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

// compare wants every line that a document shows in what was printed. The order
// of events differs from run to run, […] stands for anything.
func compare(t *testing.T, b block, printed string) {
	t.Helper()
	printed = normal(printed)
	for line := range strings.Lines(b.output) {
		for _, part := range strings.Split(line, "[…]") {
			if part = strings.TrimSpace(normal(part)); !strings.Contains(printed, part) {
				t.Errorf("%s shows\n\t%s\nwhich is not in\n%s", b.document, part, printed)
			}
		}
	}
}

// The README's table has the settings that are read, no more and no less, and of
// OpenTelemetry's variables only such as package setup knows.
func TestSettings(t *testing.T) {
	readme := read(t, root+"/README.md")
	_, section, ok := strings.Cut(readme, "\n## Settings\n")
	if !ok {
		t.Fatal("no section Settings")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	shown := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			shown[name[1]] = true
		}
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`Getenv\("([A-Z_]+)"\)`).FindAllStringSubmatch(read(t, root+"/internal/service/settings.go"), -1) {
		known[m[1]] = true
	}
	if len(known) < 5 {
		t.Fatalf("settings.go reads %v: it is not understood", slices.Sorted(maps.Keys(known)))
	}
	for name := range known {
		if !shown[name] {
			t.Errorf("the README does not show %s", name)
		}
	}
	setup := ""
	for _, name := range []string{"doc", "environment", "exporters"} {
		setup += read(t, root+"/internal/telemetry/"+name+".go")
	}
	for name := range shown {
		if strings.HasPrefix(name, "OTEL_") && strings.Contains(setup, name) {
			continue
		}
		if !known[name] {
			t.Errorf("the README shows %s, which nothing reads", name)
		}
	}
}

// Go code compiles as it stands. The service that docs/tracing.md shows also runs.
func TestGoCode(t *testing.T) {
	dir := t.TempDir()
	base, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	// Files that are there for the compiler alone, each in a package of its own.
	overlay := map[string]map[string]string{"Replace": {}}
	flag, args := []string{"-overlay", filepath.Join(dir, "overlay.json")}, []string(nil)
	service := ""
	for i, b := range blocks(t) {
		if b.language != "go" {
			continue
		}
		name := "block" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		if err := os.WriteFile(filepath.Join(dir, name+".go"), []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][filepath.Join(base, name, name+".go")] = filepath.Join(dir, name+".go")
		args = append(args, "./"+name)
		if b.document == "tracing.md" && strings.Contains(b.text, "func run(ctx context.Context, nc *nats.Conn)") {
			service = "./" + name
			test := filepath.Join(base, "testdata", "payments_test.go")
			read(t, test) // so that a change of it is a reason to test again
			overlay["Replace"][filepath.Join(base, name, "payments_test.go")] = test
		}
	}
	if service == "" {
		t.Fatal("docs/tracing.md shows no service")
	}
	encoded, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its directory is not there, so its test is built here and run elsewhere.
	test := filepath.Join(dir, "service.test")
	for _, args := range [][]string{
		slices.Concat([]string{"go", "build"}, flag, args),
		slices.Concat([]string{"go", "test", "-c", "-vet=off", "-o", test}, flag, []string{service}),
		{test},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil { // #nosec G204 -- the test's own
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}
