package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/test/backends"
	"example.org/ordertrail/trail"
)

// TestMain runs main instead of the tests if a test starts this program as trail.
func TestMain(m *testing.M) {
	if os.Getenv("TRAIL_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), "TRAIL_TEST_MAIN=1")
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs trail, and returns what it prints and its exit code.
func run(t *testing.T, args ...string) (out, errors string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// served is a trail serve.
type served struct {
	cmd              *exec.Cmd
	page, http, grpc string // URLs
	stderr           *bytes.Buffer
}

var announced = regexp.MustCompile(`stories at (\S+), OTLP over HTTP at (\S+), OTLP over gRPC at (\S+)`)

func serve(t *testing.T, args ...string) *served {
	t.Helper()
	s := &served{cmd: command(t.Context(), t, append([]string{"serve", "--page", "127.0.0.1:0", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)...), stderr: new(bytes.Buffer)}
	s.cmd.Stderr = s.stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	m := announced.FindStringSubmatch(line)
	if m == nil {
		_ = s.cmd.Wait()
		t.Fatalf("it prints %q, %s", line, s.stderr)
	}
	s.page, s.http, s.grpc = m[1], m[2], m[3]
	return s
}

// stop stops it as an orchestrator does.
func (s *served) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("it ends with %v, %s", err, s.stderr)
	}
}

// until waits until done returns true.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func get(t *testing.T, url, accept string, change ...func(*http.Request)) (int, http.Header, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	for _, c := range change {
		c(r)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(body)
}

const browser = "text/html,application/xhtml+xml,*/*;q=0.8"

// foreign runs an application of another module, which knows only OpenTelemetry, and
// returns the ids of its first trace and of its last span.
func foreign(t *testing.T, endpoint string, env ...string) (traceID, spanID string) {
	t.Helper()
	dir := t.TempDir()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text := "module example.com/foreign\n\ngo 1.26.0\n\nrequire (\n"
	for _, line := range regexp.MustCompile(`(?m)^\s*(\S+ v\S+)( // indirect)?$`).FindAllStringSubmatch(string(mod), -1) {
		if !strings.HasSuffix(line[1], " v0.0.0") { // a module of this repository
			text += "\t" + line[1] + "\n"
		}
	}
	for name, content := range map[string]func() ([]byte, error){
		"go.mod":  func() ([]byte, error) { return []byte(text + ")\n"), nil },
		"go.sum":  func() ([]byte, error) { return os.ReadFile("../../go.sum") },
		"main.go": func() ([]byte, error) { return os.ReadFile("testdata/foreign/main.go") },
	} {
		data, err := content()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "-mod=mod", ".")
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off", "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint), env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	traceID, spanID, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	return traceID, spanID
}

// An application of another module, with links only and none of our attributes, shows its
// whole story: on the page, as JSON and as text, from its first trace and its last span.
func TestForeignApplication(t *testing.T) {
	s := serve(t)
	traceID, spanID := foreign(t, s.http)
	for _, id := range []string{traceID, spanID, strings.ToUpper(traceID)} {
		out, stderr, code := run(t, "show", "--from", s.page, "--json", id)
		var story trail.Story
		if err := json.Unmarshal([]byte(out), &story); err != nil || code != 0 {
			t.Fatalf("show %s: %v, %d, %s", id, err, code, stderr)
		}
		var names []string
		links := 0
		for _, l := range story.Lanes {
			for _, n := range l.Spans {
				names = append(names, n.Service+" "+n.Name)
			}
		}
		for _, e := range story.Edges {
			if e.Kind == trail.EdgeLink && !e.Missing {
				links++
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, ", "); len(story.Lanes) != 4 || links != 4 || len(story.Gaps) != 0 || got != "mailer mail, resizer report, resizer report, resizer resize, resizer resize, web enqueue, web upload" {
			t.Errorf("%s: %d traces, %d links, %v: %s", id, len(story.Lanes), links, story.Gaps, got)
		}
		if p := story.CriticalPath; p.To != "mail" || p.Duration != story.Duration {
			t.Errorf("the critical path leads to %s in %v, of %v", p.To, p.Duration, story.Duration)
		}
		if m := story.Services; len(m.Services) != 3 {
			t.Errorf("the service map is %+v", m)
		}
	}
	text, stderr, code := run(t, "show", "--from", s.page, traceID)
	if code != 0 || !strings.Contains(text, "resizer: resize") || !strings.Contains(text, "mailer: mail") {
		t.Errorf("%d %s: %s", code, stderr, text)
	}
	file := filepath.Join(t.TempDir(), "story.html")
	if _, stderr, code := run(t, "show", "--from", s.page, "--html", file, traceID); code != 0 {
		t.Errorf("%d %s", code, stderr)
	}
	html, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(html), `id="span-`+spanID+`"`) || regexp.MustCompile(`(src|href)="(http|/)`).Match(html) {
		t.Errorf("the page of %d bytes is not whole, or not self-contained: %v", len(html), err)
	}
	status, _, list := get(t, s.page+"/", "application/json")
	var got struct{ Stories []summary }
	if err := json.Unmarshal([]byte(list), &got); err != nil || status != http.StatusOK || len(got.Stories) != 2 {
		t.Fatalf("%d %v: %s", status, err, list)
	}
	for _, sum := range got.Stories {
		if sum.Name == "web: upload" && (sum.ID != traceID || strings.Join(sum.Services, " ") != "mailer resizer web" || sum.Spans != 7 || sum.Traces != 4 || sum.Errors != 1 || sum.Duration <= 0) {
			t.Errorf("%+v", sum)
		}
	}
	status, _, list = get(t, s.page+"/?q=size%3Dlarge", "application/json")
	if err := json.Unmarshal([]byte(list), &got); err != nil || status != http.StatusOK || len(got.Stories) != 1 || got.Stories[0].ID != traceID {
		t.Errorf("the search answers %d, %s", status, list)
	}
	for query, want := range map[string]string{traceID: "/stories/" + traceID, spanID: "/stories/" + spanID} {
		if status, header, _ := get(t, s.page+"/?q="+query, browser); status != http.StatusSeeOther || header.Get("Location") != want {
			t.Errorf("the search for %s leads to %d %s", query, status, header.Get("Location"))
		}
	}
	status, header, page := get(t, s.page+"/stories/"+traceID, browser)
	if status != http.StatusOK || !strings.Contains(page, `href="#span-`+spanID+`"`) || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the page is %d %v", status, header)
	}
	s.stop(t)
}

// A page of stories gets an event when spans arrive.
func TestFeed(t *testing.T) {
	s := serve(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.page+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	next := func() (data string) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return ""
	}
	if data := next(); !strings.Contains(data, `"added":0`) {
		t.Errorf("the first event is %q", data)
	}
	send(t, s.http, 1)
	if data := next(); !strings.Contains(data, `"added":1`) {
		t.Errorf("the next event is %q", data)
	}
	s.stop(t) // though a client follows
	if data := next(); data != "" {
		t.Errorf("after the end: %q", data)
	}
}

// send sends one span with an id.
func send(t *testing.T, endpoint string, id byte, change ...func(*http.Request)) int {
	t.Helper()
	hex := strings.Repeat("0", 15) + string('0'+id)
	body := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"` + hex + hex + `","spanId":"` + hex + `","name":"n` + string('0'+id) + `","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/v1/traces", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode
}

// Errors say what is wrong, where, and what to do, with the exit codes that help lists.
func TestErrors(t *testing.T) {
	s := serve(t)
	id := strings.Repeat("ab", 16)
	taken := strings.TrimPrefix(s.http, "http://")
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
		{[]string{"serve", "--forward-header", "x"}, 2, []string{"NAME=VALUE"}},
		{[]string{"show"}, 2, []string{"32 hex digits"}},
		{[]string{"show", "xyz"}, 2, []string{"32 hex digits"}},
		{[]string{"show", "--jaeger", "http://x", "--tempo", "http://y", id}, 2, []string{"want one source, not --jaeger and --tempo"}},
		{[]string{"show", "--jaeger", "localhost", id}, 2, []string{"is not a URL"}},
		{[]string{"show", "--from", s.page, id}, 1, []string{id, "not sampled"}},
		{[]string{"show", "--from", "http://127.0.0.1:1", id}, 1, []string{"does not answer", "start trail serve"}},
		{[]string{"show", "--jaeger", "http://127.0.0.1:1", id}, 1, []string{"Jaeger at http://127.0.0.1:1"}},
		{[]string{"show", "--jaeger", s.page, id}, 1, []string{"no query API"}},
		{[]string{"show", "--tempo", "http://127.0.0.1:1", id}, 1, []string{"Tempo at http://127.0.0.1:1"}},
		{[]string{"show", "--file", "none.json", id}, 1, []string{"none.json"}},
		{[]string{"show", "--file", "main_test.go", id}, 1, []string{"main_test.go: line 1 is not OTLP JSON"}},
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
	for path, want := range map[string]int{"/stories/xyz": 400, "/stories/" + id: 404, "/?q=nonsense": 400, "/?q=a%3Db": 200, "/nonsense": 404} {
		for _, accept := range []string{browser, "application/json"} {
			if status, _, body := get(t, s.page+path, accept); status != want || body == "" {
				t.Errorf("%s as %s: %d, want %d: %s", path, accept, status, want, body)
			}
		}
	}
	s.stop(t)
}

// Requests that name another host, or come from another site, are refused.
func TestHosts(t *testing.T) {
	s := serve(t, "--allow-host", "trail.example")
	for host, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:80": 200, "trail.example:8090": 200, "evil.example": 421, "127.0.0.1.evil.example": 421} {
		named := func(r *http.Request) { r.Host = host }
		if status, _, _ := get(t, s.page+"/", browser, named); status != want {
			t.Errorf("the page for %s: %d, want %d", host, status, want)
		}
		if status := send(t, s.http, 1, named); status != want {
			t.Errorf("OTLP for %s: %d, want %d", host, status, want)
		}
	}
	if status := send(t, s.http, 1, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); status != 403 {
		t.Errorf("from another site: %d", status)
	}
}

// With a token, every request needs it; a browser gives it once.
func TestToken(t *testing.T) {
	s := serve(t, "--page", "0.0.0.0:0", "--token", "secret")
	s.page = strings.Replace(s.page, "0.0.0.0", "127.0.0.1", 1)
	s.page = strings.Replace(s.page, "[::]", "127.0.0.1", 1)
	for _, url := range []string{s.page, s.page + "/?token=wrong", s.page + "/events"} {
		if status, _, body := get(t, url, browser); status != http.StatusUnauthorized || !strings.Contains(body, "token") {
			t.Errorf("%s without the token: %d %s", url, status, body)
		}
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }
	if status := send(t, s.http, 1); status != http.StatusUnauthorized {
		t.Errorf("OTLP without the token: %d", status)
	}
	if status := send(t, s.http, 1, bearer); status != http.StatusOK {
		t.Errorf("OTLP with the token: %d", status)
	}
	status, header, _ := get(t, s.page+"/?token=secret&q=a%3Db", browser)
	if status != http.StatusSeeOther || header.Get("Location") != "/?q=a%3Db" || !strings.Contains(header.Get("Set-Cookie"), "HttpOnly; SameSite=Strict") {
		t.Fatalf("the token in the address: %d %v", status, header)
	}
	cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	if status, _, _ := get(t, s.page+"/", browser, func(r *http.Request) { r.Header.Set("Cookie", cookie) }); status != http.StatusOK {
		t.Errorf("with the cookie: %d", status)
	}
	if _, stderr, code := run(t, "show", "--from", s.page, "--token", "secret", "0000000000000001"); code != 0 {
		t.Errorf("show: %d %s", code, stderr)
	}
	if _, stderr, code := run(t, "show", "--from", s.page, "0000000000000001"); code != 1 || !strings.Contains(stderr, "token") {
		t.Errorf("show without the token: %d %s", code, stderr)
	}
}

// Everything is sent on to a backend, from one trail to another, over HTTP and gRPC; while
// the backend is away, stories are received nevertheless.
func TestForward(t *testing.T) {
	backend := serve(t)
	for name, url := range map[string]string{"HTTP": backend.http, "gRPC": strings.Replace(backend.grpc, "http:", "grpc:", 1)} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "--forward", url, "--forward-header", "X-Test=1")
			id := map[string]byte{"HTTP": 1, "gRPC": 2}[name]
			if status := send(t, s.http, id); status != http.StatusOK {
				t.Fatal(status)
			}
			until(t, "the backend has the span", func() bool {
				status, _, _ := get(t, backend.page+"/stories/000000000000000"+string('0'+id), "application/json")
				return status == http.StatusOK
			})
			until(t, "the page counts it", func() bool {
				_, _, list := get(t, s.page+"/", "application/json")
				return strings.Contains(list, `"sent":1,"dropped":0`)
			})
			s.stop(t)
		})
	}
	away, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = away.Close() }()
	s := serve(t, "--forward", "http://"+away.Addr().String())
	if status := send(t, s.http, 1); status != http.StatusOK {
		t.Errorf("while the backend is away: %d", status)
	}
	s.stop(t)
	if !strings.Contains(s.stderr.String(), "dropped=1") {
		t.Errorf("the drop is not reported: %s", s.stderr)
	}
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
