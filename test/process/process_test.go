package process

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/test/systemtest"
)

// process is a running binary.
type process struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr systemtest.Output
	exited         chan struct{}
	temp           string // its directory for temporary files
}

// start runs a binary with nothing in its environment but env. It is killed when
// the test ends, if it still runs then.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(binary(t, name), args...), exited: make(chan struct{}), temp: t.TempDir()}
	p.cmd.Env = append([]string{"TMPDIR=" + p.temp}, env...)
	p.cmd.Dir = p.temp
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // its result is in ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		for _, bad := range []string{"DATA RACE", "panic:"} {
			if strings.Contains(p.stderr.String(), bad) {
				t.Errorf("%s: %s", p.name, bad)
			}
		}
		if t.Failed() {
			t.Logf("%s %s, %s\nstdout:\n%s\nstderr:\n%s", p.name, args, p.cmd.ProcessState, end(&p.stdout), end(&p.stderr))
		}
	})
	return p
}

// run runs a binary to its end and returns its exit code.
func run(t testing.TB, env []string, name string, args ...string) (*process, int) {
	t.Helper()
	p := start(t, env, name, args...)
	return p, p.wait(t, patience)
}

func (p *process) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s: %v", p.name, err)
	}
}

// wait returns the exit code, -1 if a signal ended the process.
func (p *process) wait(t testing.TB, most time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(most):
		// A dump of its goroutines goes to the test's log.
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.exited
		t.Fatalf("%s still ran after %v", p.name, most)
		return -1
	}
}

// stop sends SIGTERM and wants exit code 0 within 10 s.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t, 10*time.Second); code != 0 {
		t.Errorf("%s: exit code %d on SIGTERM", p.name, code)
	}
}

// said waits for a line on o that matches the pattern and returns its first group.
func (p *process) said(t testing.TB, o *systemtest.Output, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	systemtest.Until(t, p.name+" prints "+pattern, func() bool {
		found = re.FindStringSubmatch(o.String())
		if found == nil && p.ended() {
			t.Fatalf("%s ended without printing %s", p.name, pattern)
		}
		return found != nil
	})
	return found[len(found)-1]
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

var address = regexp.MustCompile(`msg=running.* address=(\S+)`)

// url is where the process serves HTTP.
func (p *process) url(t testing.TB) string {
	t.Helper()
	return "http://" + p.said(t, &p.stderr, address.String())
}

// ready waits until the process can work.
func (p *process) ready(t testing.TB) {
	t.Helper()
	url := p.url(t)
	systemtest.Until(t, p.name+" is ready", func() bool { return status(url+"/readyz") == http.StatusOK })
}

// status is that of a GET, 0 if there was no answer.
func status(url string) int {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// natsServer is a NATS server with the configuration of docker-compose.yml. Every process
// connects as the same user as there; the tests have a user of their own without limits.
type natsServer struct {
	*process
	url   string // without credentials
	store string
}

// as is the environment of a process that is one of the server's users.
func as(user string) []string {
	return []string{"NATS_USER=" + user, "NATS_PASSWORD=demo-" + user}
}

// unlimited is the URL with the user that has no limits.
func (n *natsServer) unlimited() string {
	return strings.Replace(n.url, "://", "://tester:demo-tester@", 1)
}

// port is the one that it listens on.
func (n *natsServer) port() string { return n.url[strings.LastIndex(n.url, ":")+1:] }

func startNATS(t testing.TB, args ...string) *natsServer {
	t.Helper()
	return startNATSOn(t, t.TempDir(), "-1", args...)
}

func startNATSOn(t testing.TB, store, port string, args ...string) *natsServer {
	t.Helper()
	return startNATSWith(t, withTester(t, ""), store, port, args...)
}

func startNATSWith(t testing.TB, config, store, port string, args ...string) *natsServer {
	t.Helper()
	args = append([]string{"-c", config, "-a", "127.0.0.1", "-p", port, "-m", "-1", "-sd", store}, args...)
	p := start(t, nil, "nats-server", args...)
	addr := p.said(t, &p.stderr, `Listening for client connections on (\S+)`)
	p.said(t, &p.stderr, `Server is ready`)
	return &natsServer{p, "nats://" + addr, store}
}

// withTester copies the server's configuration and adds a user, and a line about
// JetStream.
func withTester(t testing.TB, jetStream string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"nats.conf", "passwords.conf"} {
		text, err := os.ReadFile(repository(t, "nats/"+name))
		if err != nil {
			t.Fatal(err)
		}
		const users = "\tusers: [\n"
		if name == "nats.conf" {
			if strings.Count(string(text), users) != 1 {
				t.Fatalf("%s has no list of users", name)
			}
			text = []byte(strings.NewReplacer(users, users+"\t\t{ user: tester, password: demo-tester }\n",
				"jetstream {\n", "jetstream {\n"+jetStream+"\n").Replace(string(text)))
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "nats.conf")
}

// provision makes the streams by the command that does so.
func (n *natsServer) provision(t testing.TB) {
	t.Helper()
	if p, code := run(t, append(as("admin"), "NATS_URL="+n.url), "ordertrail", "provision"); code != 0 {
		t.Fatalf("provision: exit code %d: %s", code, &p.stderr)
	}
}

// service starts a service on free ports.
func (n *natsServer) service(t testing.TB, name string, env ...string) *process {
	t.Helper()
	common := append(as(name), "NATS_URL="+n.url, "HTTP_ADDR=127.0.0.1:0", "HEALTH_ADDR=127.0.0.1:0")
	return start(t, append(common, env...), name)
}

// jetStream is an administrator's access to the streams.
func (n *natsServer) jetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(n.unlimited())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// repository returns the absolute path of a file in the repository.
func repository(t testing.TB, path string) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	path = wd + "/../../" + path
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return path
}

// end is the last part of an output.
func end(o *systemtest.Output) string {
	s := o.String()
	return s[max(0, len(s)-4000):]
}
