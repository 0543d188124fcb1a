package compose

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// stack is a running stack.
type stack struct {
	args                           []string // the command, with its files
	shop, analytics, jaeger, mails string   // URLs
	trail                          string
}

// port is the URL of the port that a variable of docker-compose.yml sets.
func port(variable, by string) string {
	if p := os.Getenv(variable); p != "" {
		by = p
	}
	return "http://127.0.0.1:" + by
}

// open returns the stack of these files. It removes the remains of an earlier one, with
// its volumes, now and when the test ends.
func open(t *testing.T, files ...string) *stack {
	t.Helper()
	if *command == "" {
		t.Skip("needs containers: scripts/verify-compose")
	}
	s := &stack{
		args: strings.Fields(*command),
		shop: port("HTTP_PORT", "8080"), analytics: port("ANALYTICS_PORT", "8081"),
		jaeger: port("JAEGER_PORT", "16686"), mails: port("MAILPIT_PORT", "8025"), trail: port("TRAIL_PORT", "8090"),
	}
	for _, f := range files {
		s.args = append(s.args, "-f", "../../"+f)
	}
	down := func() {
		s.compose(t, "--profile", "load", "--profile", "trail", "down", "--volumes", "--remove-orphans", "--timeout", "15")
	}
	down()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.run("--profile", "load", "--profile", "trail", "logs", "--no-color", "--tail", "40")
			t.Logf("ps:\n%s\nlogs:\n%s", s.compose(t, "ps"), out)
		}
		down()
		if left := s.containers(t, "-a"); len(left) > 0 {
			t.Errorf("down leaves %s", left)
		}
	})
	return s
}

// replacePasswords replaces all passwords of the demo as docs/security.md describes.
func replacePasswords(t *testing.T) {
	t.Helper()
	demo, err := os.ReadFile("../../nats/passwords.conf")
	if err != nil {
		t.Fatal(err)
	}
	var mine strings.Builder
	for _, found := range regexp.MustCompile(`(?m)^(NATS_PASSWORD_\w+):`).FindAllSubmatch(demo, -1) {
		variable, password := string(found[1]), rand.Text()
		fmt.Fprintf(&mine, "%s: %q\n", variable, password)
		t.Setenv(variable, password)
	}
	t.Setenv("NATS_PASSWORD_ROUTES", rand.Text())
	path := filepath.Join(t.TempDir(), "passwords.conf")
	if err := os.WriteFile(path, []byte(mine.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATS_PASSWORDS_FILE", path)
}

// operator runs a command of the binary as that user of the stack's NATS.
func (s *stack) operator(t *testing.T, password string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command("docker", append([]string{"run", "--rm", "--network", network(t, s), "-e", "NATS_URL=nats://nats:4222",
		"-e", "NATS_USER=operator", "-e", "NATS_PASSWORD=" + password, image(), "ordertrail"}, args...)...).CombinedOutput()
	return string(out), err
}

func (s *stack) run(args ...string) (string, error) {
	args = append(slices.Clone(s.args), args...)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	return string(out), err
}

// compose runs a command that must succeed.
func (s *stack) compose(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.run(args...)
	if err != nil {
		t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// containers lists the ids of the stack's containers.
func (s *stack) containers(t *testing.T, args ...string) []string {
	t.Helper()
	return strings.Fields(s.compose(t, append([]string{"ps", "-q"}, args...)...))
}

// docker runs a command of the engine's own.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// up starts the stack, and waits until all containers are healthy and the streams exist.
func (s *stack) up(t *testing.T, args ...string) {
	t.Helper()
	start := time.Now()
	s.compose(t, append([]string{"up", "-d", "--no-build"}, args...)...)
	s.healthy(t)
	t.Logf("up %s: all healthy after %.0f s", strings.Join(args, " "), time.Since(start).Seconds())
}

// state is the format in which docker inspect describes a container.
const state = `{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{end}}`

func (s *stack) healthy(t *testing.T) {
	t.Helper()
	until(t, "everything is healthy", func() error {
		var wrong []string
		all := s.containers(t, "-a")
		if len(all) < len(services)+3 {
			return fmt.Errorf("only %d containers", len(all))
		}
		for line := range strings.Lines(docker(t, append([]string{"inspect", "-f", state}, all...)...)) {
			switch line = strings.TrimSpace(line); {
			case strings.HasSuffix(line, "running 0 healthy"):
			case line == "provision exited 0", line == "load running 0":
			default:
				wrong = append(wrong, line)
			}
		}
		if wrong != nil {
			return fmt.Errorf("%s", strings.Join(wrong, "; "))
		}
		return nil
	})
}

// until polls until ok returns nil.
func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	const patience, every = 3 * time.Minute, 200 * time.Millisecond
	for deadline := time.Now().Add(patience); ; <-time.After(every) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s: %v", patience, what, err)
		}
	}
}

func image() string {
	if i := os.Getenv("ORDERTRAIL_IMAGE"); i != "" {
		return i
	}
	return "ordertrail:dev"
}

// network is the stack's.
func network(t *testing.T, s *stack) string {
	t.Helper()
	return strings.Fields(docker(t, "inspect", "-f", `{{range $n, $c := .NetworkSettings.Networks}}{{$n}} {{end}}`, s.containers(t)[0]))[0]
}
