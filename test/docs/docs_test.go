// Package docs tests the documents: their commands run and print what the documents
// show, their links have a target, their Go code compiles.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// elsewhere maps each command of the documents that this package does not run to the
// test, or the section of .ci/run, that runs it.
var elsewhere = map[string]string{
	"go run .":                                             "test/process: TestInterrupt",
	"go run . --once":                                      ".ci/run: demo",
	"go test work":                                         ".ci/run: tests",
	"ORDERTRAIL_TESTS=full go test work":                   ".ci/run: long tests",
	"go test ./services/payments":                          ".ci/run: tests",
	"go test ./test/system -run TestScenarios":             "test/system: TestScenarios",
	"go run ./internal/rename example.com/you/ordertrail":  "internal/rename: TestRename",
	"go run ./cmd/payments":                                "test/process: TestStartsBeforeNATS",
	"go test ./test/browser -run Screenshots -screenshots": "test/browser: TestScreenshots",
	"go test -race ./...":                                  ".ci/run: tests with the race detector",
	".ci/run":                                              ".ci/run: tests",
	"docker compose up --build":                            ".ci/run: docker-compose.yml",
	"docker compose up --build --scale payments=3 --scale fulfillment=3 --scale inventory=2": "test/compose: TestCompose",
	"docker compose --profile load up --build":                                               "test/compose: TestCompose",
	"docker compose stop":           "test/compose: TestCompose",
	"docker compose down":           "test/compose: TestCompose",
	"docker compose down --volumes": "test/compose: TestCompose",
	"docker compose -f docker-compose.yml -f docker-compose.cluster.yml up --build":  "test/compose: TestCluster",
	"docker compose -f docker-compose.yml -f docker-compose.cluster.yml stop nats-2": "test/compose: TestCluster",
	"scripts/verify-compose":   ".ci/run: containers",
	"docker compose up jaeger": ".ci/run: docker-compose.yml",
	"export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 JAEGER_URL=http://localhost:16686 JAEGER_UI_URL=http://localhost:16686": "test/docs: TestServerHasTrails",
	"go build -o bin/ . ./cmd/...": ".ci/run: binaries",
	"go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 bin -json -licenses -version dev -output bin/ordertrail.json bin/ordertrail": ".ci/run: sbom",
	"go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 bin -json -licenses -version dev -output bin/trail.json bin/trail":           ".ci/run: sbom",
	"NATS_USER=admin NATS_PASSWORD=demo-admin bin/ordertrail provision":                                                                                   "test/process: TestStartsBeforeNATS",
	"export NATS_URL=nats://demo:PASSWORD@127.0.0.1:4222":                                                                                                 "test/process: TestOperator",
	"go run . restock LAST-ONE 5":                         "test/process: TestCommands",
	"go run . trail 01a20482-ab51-759f-8537-365521a88cb5": "test/process: TestTrailCommand",
	"go run . deadletters":                                "test/process: TestOperator",
	"go run . deadletters show payments.58":               "test/process: TestOperator",
	"go run . deadletters redrive payments.58":            "test/process: TestOperator",
	"go run . deadletters redrive --all":                  "test/process: TestOperator",
	"go run . replay analytics":                           "test/process: TestOperator",
	"go run . load -burst -orders 20000 -concurrency 256": "internal/load: TestComesBack",
	"go test ./test/chaos -run TestStressChaos -seed 41":  "test/chaos: TestStressChaos",
	"for i in $(seq 20); do go -C pkg/tracing/peers test -run='^$' -bench=. -cpu=1 -benchtime=20000x .; done | go -C pkg/tracing/peers run ./ratios": ".ci/run: cost of tracing, and of its peers",
	"go run ./test/scaling -orders 1000,10000,100000,1000000": ".ci/run: scaling",
	"go run . load -orders 1000":                              "test/process: TestCommands",
	"go test -run='^$' -bench=. -benchtime=1x ./...":          ".ci/run: benchmarks, once each",
	"for s in orders payments inventory fulfillment notify analytics; do NATS_USER=$s NATS_PASSWORD=demo-$s bin/$s & done": "test/process: TestStartsBeforeNATS",
	"go install github.com/nats-io/nats-server/v2@v2.15.2":                                                                 "test/process: build",
	"nats-server -c nats/nats.conf -a 127.0.0.1 -sd /tmp/ordertrail":                                                       "test/process: startNATS",
	"go run ./cmd/trail serve": "cmd/trail: TestForeignApplication",
	"go run ./cmd/trail serve --http 127.0.0.1:14318 --grpc 127.0.0.1:14317 --forward http://127.0.0.1:4318":                   "cmd/trail: TestForward",
	"go run ./cmd/trail show 4bf92f3577b34da6a3ce929d0e0e4736":                                                                 "cmd/trail: TestErrors",
	"go run ./cmd/trail show --jaeger http://127.0.0.1:16686 4bf92f3577b34da6a3ce929d0e0e4736":                                 "cmd/trail: TestShowSources",
	"go run ./cmd/trail show --tempo http://127.0.0.1:3200 4bf92f3577b34da6a3ce929d0e0e4736":                                   "cmd/trail: TestShowSources",
	"go run ./cmd/trail show --file traces.json 00f067aa0ba902b7":                                                              "cmd/trail: TestShowSources",
	"OTLP_ENDPOINT=http://trail:4318 OTLP_HEADERS=Authorization=Bearer%20demo-trail docker compose --profile trail up --build": "test/compose: TestCompose",
	"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 go run .":                                                               "cmd/trail: TestForeignApplication",
	"OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.3 go run .":                                        "test/process: TestCourseSampling",
	"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=0.3 go run .":                                                    "test/process: TestCourseSampling",
	"TRACE_TOPOLOGY=parent go run .":                                                                                           "test/process: TestCourseParents",
	"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 go run .":                                                               "test/process: TestRestartUnderLoad",
}

const root = "../.."

// block is a fenced code block.
type block struct {
	document, language, text string
	output                   string // the text block that directly follows a sh block
}

func documents(t *testing.T) []string {
	t.Helper()
	more, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{root + "/README.md", root + "/CONTRIBUTING.md", root + "/CHANGELOG.md"}, more...)
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
		t.Fatalf("found only %d code blocks", len(all))
	}
	return all
}

// TestCommands runs the commands with curl against the demo, and compares their output
// with the document. Every other command must be in elsewhere.
func TestCommands(t *testing.T) {
	t.Parallel()
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
			if strings.HasPrefix(b.text, "go run . trail ") {
				printed = func() string { return run.trail(t) }
			}
			for line := range strings.Lines(b.text) {
				line = strings.TrimSpace(line)
				if elsewhere[line] == "" {
					t.Errorf("%s: no test runs %q: add it to the map elsewhere", b.document, line)
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
			t.Errorf("no document has %q: remove it from the map elsewhere", command)
		}
		where, what, _ := strings.Cut(by, ": ")
		if where == ".ci/run" {
			if !strings.Contains(read(t, root+"/.ci/run"), " '"+what+"'") {
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
