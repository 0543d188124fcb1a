package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/test/backends"
	"example.org/ordertrail/trail"
)

// Errors say what is wrong, where, and what to do, with the exit codes that help lists.
func TestErrors(t *testing.T) {
	s := serve(t)
	id := strings.Repeat("ab", 16)
	taken := strings.TrimPrefix(s.http, "http://")
	cut := filepath.Join(t.TempDir(), "cut.json")
	if err := os.WriteFile(cut, []byte(`{"resourceSpans":[]}`+"\n"+`{"resourceSpans":[{"scope`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"help"}, 0, nil},
		{nil, 0, nil},
		{[]string{"serve", "--help"}, 0, nil},
		{[]string{"show", "-h"}, 0, nil},
		{[]string{"dance"}, 2, []string{`unknown command "dance" (commands: serve, show, help)`}},
		{[]string{"serve", "now"}, 2, []string{`unexpected "now"`}},
		{[]string{"serve", "--nonsense"}, 2, []string{"nonsense", "help lists the commands and flags"}},
		{[]string{"serve", "--memory", "0"}, 2, []string{"--memory must be 1 or more"}},
		{[]string{"serve", "--page", "8090"}, 2, []string{"--page", "127.0.0.1:8090"}},
		{[]string{"serve", "--page", ":0"}, 2, []string{"--token", "TRAIL_TOKEN"}},
		{[]string{"serve", "--page", "127.0.0.1:0", "--http", "0.0.0.0:0"}, 2, []string{"--http 0.0.0.0:0", "--token"}},
		{[]string{"serve", "--page", "127.0.0.1:0", "--http", taken}, 1, []string{taken + " is taken", "--http 127.0.0.1:PORT"}},
		{[]string{"serve", "--forward", "ftp://x"}, 2, []string{`unknown scheme "ftp"`}},
		{[]string{"serve", "--forward", "x"}, 2, []string{"http://127.0.0.1:4318"}},
		{[]string{"serve", "--forward", "http://localhost:4318/"}, 2, []string{"is an address of trail serve itself", "--http 127.0.0.1:PORT"}},
		{[]string{"serve", "--forward", "grpc://127.0.0.1:4317"}, 2, []string{"is an address of trail serve itself"}},
		{[]string{"serve", "--token", "x", "--http", ":14318", "--forward", "http://[::1]:14318"}, 2, []string{"is an address of trail serve itself"}},
		{[]string{"serve", "--forward-header", "x"}, 2, []string{"NAME=VALUE"}},
		{[]string{"serve", "--forward-header", "a=b"}, 2, []string{"needs --forward"}},
		{[]string{"--page", "127.0.0.1:0"}, 2, []string{"want a command before --page"}},
		{[]string{"show", "--file", "", id}, 2, []string{"--file is empty"}},
		{[]string{"show", "--html=", id}, 2, []string{"--html is empty"}},
		{[]string{"show"}, 2, []string{"32 hex digits"}},
		{[]string{"show", "xyz"}, 2, []string{"32 hex digits"}},
		{[]string{"show", "--jaeger", "http://x", "--tempo", "http://y", id}, 2, []string{"want one source, not --jaeger and --tempo"}},
		{[]string{"show", "--json", "--html", "story.html", id}, 2, []string{"want --json or --html, not both"}},
		{[]string{"show", "--jaeger", "localhost", id}, 2, []string{"is not a URL"}},
		{[]string{"show", "--from", s.page, id}, 1, []string{id, "not sampled"}},
		{[]string{"show", "--from", "http://127.0.0.1:1", id}, 1, []string{"does not answer", "start trail serve"}},
		{[]string{"show", "--jaeger", "http://127.0.0.1:1", id}, 1, []string{"Jaeger at http://127.0.0.1:1"}},
		{[]string{"show", "--jaeger", s.page, id}, 1, []string{"no query API"}},
		{[]string{"show", "--tempo", "http://127.0.0.1:1", id}, 1, []string{"Tempo at http://127.0.0.1:1"}},
		{[]string{"show", "--file", cut, id}, 1, []string{cut + ": The last line of the file, 2, is cut"}},
		{[]string{"show", "--file", cut, id[:16]}, 1, []string{cut + ": The last line of the file, 2, is cut"}},
		{[]string{"show", "--file", "none.json", id}, 1, []string{"none.json"}},
		{[]string{"show", "--file", "main_test.go", id}, 1, []string{"main_test.go: line 1 is not OTLP JSON, one message a line"}},
	} {
		out, stderr, code := run(t, tc.args...)
		if code != tc.code || tc.code > 0 && strings.Count(stderr, "\n") != 1 || tc.code == 0 && !strings.Contains(out, "usage: go run ./cmd/trail") {
			t.Errorf("trail %q: exit code %d, want %d: %s", tc.args, code, tc.code, stderr)
		}
		for _, part := range tc.want {
			if !strings.Contains(stderr, part) {
				t.Errorf("trail %q prints %q, without %q", tc.args, stderr, part)
			}
		}
	}
	s.stop(t)
}

// show reads the same story from Jaeger, Tempo and a file, from a trace's id and a span's.
func TestShowSources(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	id := func(n string) trail.Ref {
		return trail.Ref{TraceID: strings.Repeat(n, 32), SpanID: strings.Repeat(n, 16)}
	}
	spans := []trail.Span{
		{Ref: id("a"), Service: "web", Name: "send", Kind: "producer", Start: now, End: now.Add(time.Millisecond)},
		{Ref: id("b"), Service: "worker", Name: "receive", Kind: "consumer", Start: now.Add(2 * time.Millisecond), End: now.Add(3 * time.Millisecond),
			Links: []trail.Link{{Ref: id("a"), Attributes: trail.Attributes{"link.trace_id": id("a").TraceID}}}},
		{Ref: id("c"), Service: "other", Name: "unrelated", Start: now, End: now},
	}
	for source, at := range map[string]string{"--jaeger": backends.Jaeger(t, spans).String(), "--tempo": backends.Tempo(t, spans).String(), "--file": backends.File(t, spans)} {
		for _, start := range []string{id("a").TraceID, id("b").TraceID, id("b").SpanID} {
			out, stderr, code := run(t, "show", source, at, "--json", "--until", "send", start)
			var story trail.Story
			if err := json.Unmarshal([]byte(out), &story); err != nil || code != 0 {
				t.Errorf("%s: %v, %d, %s", source, err, code, stderr)
				continue
			}
			if len(story.Lanes) != 2 || len(story.Gaps) != 0 || story.CriticalPath.To != "send" {
				t.Errorf("%s %s: %d traces, the path leads to %s, %v", source, start, len(story.Lanes), story.CriticalPath.To, story.Gaps)
			}
		}
		if _, stderr, code := run(t, "show", source, at, id("d").TraceID); code != 1 || !strings.Contains(stderr, "not sampled") {
			t.Errorf("%s, an unknown trace: %d %s", source, code, stderr)
		}
	}
	if out, stderr, code := run(t, "show", "--file", backends.File(t, spans), "--until", "nothing", id("a").TraceID); code != 0 || !strings.Contains(stderr, `named "nothing"`) || !strings.Contains(out, "to receive") {
		t.Errorf("--until with an unknown name: %d %s%s", code, out, stderr)
	}
	// Without links, the two traces are one.
	for flags, want := range map[string]string{"": "2 spans in 2 traces", "--parents": "2 spans in 1 trace,", "--json --parents": `"parent_span_id": "` + id("a").SpanID} {
		args := append([]string{"show", "--file", backends.File(t, spans), id("a").TraceID}, strings.Fields(flags)...)
		if out, stderr, code := run(t, args...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("show %s: %d %s%s", flags, code, out, stderr)
		}
	}
}

// A key keeps stories with different values apart, although a link joins them: show and
// serve have it.
func TestKey(t *testing.T) {
	s := serve(t, "--key", "tenant")
	start := time.Now().UnixNano()
	var lines []string
	for n, tenant := range []string{"one", "one", "two"} {
		id := func(n int) string { return fmt.Sprintf(`"traceId":"%032x","spanId":"%016x"`, n, n) }
		lines = append(lines, fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{%s,"name":"span %d","startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{"key":"tenant","value":{"stringValue":"%s"}}],"links":[{%s}]}]}]}]}`,
			id(n+1), n+1, start+int64(n), start+int64(n)+1, tenant, id(max(1, n))))
		answer, err := http.Post(s.http+"/v1/traces", "application/json", strings.NewReader(lines[n]))
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		_ = answer.Body.Close()
	}
	file := filepath.Join(t.TempDir(), "traces.json")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"2 spans in 2 traces":  {"--from", s.page},
		"2 spans in 2 traces,": {"--file", file, "--key", "tenant"},
		"3 spans in 3 traces":  {"--file", file},
	} {
		out, stderr, code := run(t, append([]string{"show", "0000000000000001"}, args...)...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("show %q: %d %s, want %s: %s", args, code, stderr, want, out)
		}
	}
	if _, _, list := get(t, s.page+"/", "application/json"); strings.Count(list, `"name":`) != 2 {
		t.Errorf("the list has %s, want two stories", list)
	}
}

// The library and the tool need no NATS and no service of the shop.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../../trail", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Split(strings.TrimSpace(string(out)), "\n")
	if !slices.Contains(deps, "example.org/ordertrail/trail") || len(deps) < 100 {
		t.Fatalf("the list of %d is not complete", len(deps))
	}
	for _, d := range deps {
		if strings.Contains(d, "nats") || strings.HasPrefix(d, "example.org/ordertrail/services/") {
			t.Errorf("trail needs %s", d)
		}
	}
}
