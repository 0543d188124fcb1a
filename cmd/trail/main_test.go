package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
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

// A command whose output is lost fails.
func TestLostOutput(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "traces.json")
	line := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"` + strings.Repeat("a", 32) + `","spanId":"` + strings.Repeat("a", 16) + `"}]}]}]}`
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	show := []string{"show", "--file", file, strings.Repeat("a", 32)}
	for _, args := range [][]string{{"help"}, {"show", "-h"}, show, append(show, "--json")} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		defer func() { _ = full.Close() }()
		var stderr bytes.Buffer
		cmd := command(ctx, t, args...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 1 || stderr.String() != "trail: write /dev/stdout: no space left on device\n" {
			t.Errorf("trail %q: exit code %d, %s", args, code, &stderr)
		}
	}
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
