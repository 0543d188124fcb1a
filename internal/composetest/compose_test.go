// Package composetest tests docker-compose.yml as what it is: containers, with
// their networks, volumes and health checks, on a Docker engine. scripts/verify-compose
// builds the image, and runs it.
package composetest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ordertrail/internal/demo"
	"ordertrail/internal/load"
	"ordertrail/internal/system/systemtest"
	"ordertrail/internal/trail"
	"ordertrail/services/notify"
)

var command = flag.String("compose", "", "how docker compose is called here; without it there are no tests")

var services = []string{"orders", "payments", "inventory", "fulfillment", "notify", "analytics"}

// stack is what compose has started.
type stack struct {
	args                           []string // the command, with its files
	shop, analytics, jaeger, mails string   // URLs
}

// port is that of a variable of docker-compose.yml.
func port(variable, by string) string {
	if p := os.Getenv(variable); p != "" {
		by = p
	}
	return "http://127.0.0.1:" + by
}

// open describes a stack of these files. Whatever is left of it is removed, now and
// when the test ends, with its volumes.
func open(t *testing.T, files ...string) *stack {
	t.Helper()
	if *command == "" {
		t.Skip("needs containers: scripts/verify-compose")
	}
	s := &stack{
		args: strings.Fields(*command),
		shop: port("HTTP_PORT", "8080"), analytics: port("ANALYTICS_PORT", "8081"),
		jaeger: port("JAEGER_PORT", "16686"), mails: port("MAILPIT_PORT", "8025"),
	}
	for _, f := range files {
		s.args = append(s.args, "-f", "../../"+f)
	}
	down := func() { s.compose(t, "--profile", "load", "down", "--volumes", "--remove-orphans", "--timeout", "15") }
	down()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.run("--profile", "load", "logs", "--no-color", "--tail", "40")
			t.Logf("ps:\n%s\nlogs:\n%s", s.compose(t, "ps"), out)
		}
		down()
		if left := s.containers(t, "-a"); len(left) > 0 {
			t.Errorf("down leaves %s", left)
		}
	})
	return s
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

// up starts the stack, and waits until everything in it is healthy, and the streams
// are made.
func (s *stack) up(t *testing.T, args ...string) {
	t.Helper()
	start := time.Now()
	s.compose(t, append([]string{"up", "-d", "--no-build"}, args...)...)
	s.healthy(t)
	t.Logf("up %s: all healthy after %.0f s", strings.Join(args, " "), time.Since(start).Seconds())
}

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

// play plays scenarios, one after the other, and returns their orders' ids.
func (s *stack) play(t *testing.T, scenarios ...demo.Scenario) (ids []string) {
	t.Helper()
	for _, sc := range scenarios {
		order, err := demo.Play(context.Background(), demo.Shop{URL: s.shop, Client: http.DefaultClient}, sc)
		if err != nil {
			t.Errorf("%s: %v", sc.Name, err)
		}
		ids = append(ids, order.ID)
	}
	return ids
}

// get returns what is at a URL, as JSON.
func get(t *testing.T, url string, into any) error {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s: %s: %.200s", url, answer.Status, body)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// mailed waits until the mails of an order are in the mailbox: those, and no other.
func (s *stack) mailed(t *testing.T, order string, sc demo.Scenario) {
	t.Helper()
	var want []string
	for _, typ := range sc.Want.Events {
		if typ.Domain() == notify.Name {
			want = append(want, strings.Trim(notify.MessageID(typ, order), "<>"))
		}
	}
	slices.Sort(want)
	until(t, sc.Name+"'s mails are there", func() error {
		var box struct {
			Messages []struct{ MessageID string }
		}
		if err := get(t, s.mails+"/api/v1/messages?limit=1000", &box); err != nil {
			return err
		}
		var got []string
		for _, m := range box.Messages {
			if strings.Contains(m.MessageID, order) {
				got = append(got, m.MessageID)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// traced waits until Jaeger has spans of every service, and some of the order's.
func (s *stack) traced(t *testing.T, order string) {
	t.Helper()
	var known struct{ Services []string }
	until(t, "Jaeger knows every service", func() error {
		if err := get(t, s.jaeger+"/api/v3/services", &known); err != nil {
			return err
		}
		for _, name := range services {
			if !slices.Contains(known.Services, name) {
				return fmt.Errorf("not %s, but %s", name, known.Services)
			}
		}
		return nil
	})
	for _, name := range services {
		until(t, "Jaeger has traces of "+name+" about the order", func() error {
			from, to := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
			query := url.Values{ // each under both of its names: see package trail
				"query.serviceName": {name}, "query.startTimeMin": {from}, "query.startTimeMax": {to}, "query.searchDepth": {"1000"},
				"query.service_name": {name}, "query.start_time_min": {from}, "query.start_time_max": {to}, "query.num_traces": {"1000"},
			}
			var found struct{ Result json.RawMessage }
			if err := get(t, s.jaeger+"/api/v3/traces?"+query.Encode(), &found); err != nil {
				return err
			}
			if !strings.Contains(string(found.Result), order) {
				return fmt.Errorf("%d bytes of traces do not name it", len(found.Result))
			}
			return nil
		})
	}
}

// trailed waits until the shop shows the order's whole trail, out of Jaeger.
func (s *stack) trailed(t *testing.T, order string, sc demo.Scenario) {
	t.Helper()
	client := trail.Client{URL: s.shop, HTTP: http.DefaultClient}
	until(t, sc.Name+"'s trail is whole", func() error {
		tr, err := client.Trail(context.Background(), order)
		if err != nil {
			return err
		}
		if tr.State != sc.Want.State || len(tr.Events) != len(sc.Want.Events) {
			return fmt.Errorf("it is %s, with %d events, want %s with %d", tr.State, len(tr.Events), sc.Want.State, len(sc.Want.Events))
		}
		if !tr.Complete || len(tr.Edges) < len(tr.Events) {
			return fmt.Errorf("complete %v, %d traces, %d edges, gaps %v", tr.Complete, len(tr.Lanes), len(tr.Edges), tr.Gaps)
		}
		return nil
	})
}

// counted waits until analytics has counted so many orders, none twice.
func (s *stack) counted(t *testing.T, orders int) {
	t.Helper()
	until(t, "analytics has counted", func() error {
		var a systemtest.Analytics
		if err := get(t, s.analytics+"/analytics", &a); err != nil {
			return err
		}
		if a.Orders.Created != orders || a.Orders.Shipped+a.Orders.Cancelled != orders {
			return fmt.Errorf("%+v, want %d orders", a.Orders, orders)
		}
		return nil
	})
}

// The whole stack: every scenario, with its mails, traces and trail; then each
// container is killed once, and NATS, and Jaeger is away for a while; then more
// replicas, and customers who keep coming.
func TestCompose(t *testing.T) {
	s := open(t, "docker-compose.yml")
	s.up(t)
	for _, c := range s.containers(t) {
		for _, binding := range strings.Fields(docker(t, "inspect", "-f", `{{range $p, $b := .NetworkSettings.Ports}}{{range $b}}{{.HostIp}} {{end}}{{end}}`, c)) {
			if binding != "127.0.0.1" {
				t.Errorf("a port is published on %s", binding)
			}
		}
	}
	scenarios := demo.Scenarios()
	ids := s.play(t, scenarios...)
	for i, sc := range scenarios {
		s.mailed(t, ids[i], sc)
		s.trailed(t, ids[i], sc)
	}
	s.traced(t, ids[0])
	placed := len(ids)
	s.counted(t, placed)
	t.Logf("memory:\n%s", docker(t, append([]string{"stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.CPUPerc}}"}, s.containers(t)...)...))

	for _, name := range services {
		s.compose(t, "kill", "-s", "KILL", name)
		if name != "orders" { // an order that is placed meanwhile waits for it
			order, err := demo.Shop{URL: s.shop, Client: http.DefaultClient}.Place(context.Background(), scenarios[0])
			if err != nil {
				t.Fatal(err)
			}
			ids, placed = append(ids, order.ID), placed+1
		}
		s.compose(t, "start", name)
		s.healthy(t)
		s.play(t, scenarios[0], scenarios[4])
		placed += 2
		s.counted(t, placed)
	}

	s.compose(t, "kill", "-s", "KILL", "nats")
	until(t, "the shop says that it cannot", func() error {
		_, err := demo.Shop{URL: s.shop, Client: http.DefaultClient}.Place(context.Background(), scenarios[0])
		if err == nil {
			t.Error("an order is taken without NATS")
		} else if !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "NATS") {
			return err
		}
		return nil
	})
	s.compose(t, "start", "nats")
	s.healthy(t)
	s.play(t, scenarios...)
	// A request that was answered with 503 may have been stored nevertheless.
	var a systemtest.Analytics
	if err := get(t, s.analytics+"/analytics", &a); err != nil {
		t.Error(err)
	}
	placed = max(placed+len(scenarios), a.Orders.Created)
	s.counted(t, placed)

	s.compose(t, "stop", "jaeger")
	s.play(t, scenarios[0], scenarios[1])
	placed += 2
	s.compose(t, "start", "jaeger")
	s.healthy(t)
	again := s.play(t, scenarios[0])
	placed++
	s.trailed(t, again[0], scenarios[0])

	s.up(t, "--scale", "payments=3", "--scale", "fulfillment=3", "--scale", "inventory=2")
	s.play(t, scenarios...)
	placed += len(scenarios)
	s.counted(t, placed)

	out, err := exec.Command("docker", "run", "--rm", "--network", network(t, s), "-e", "NATS_URL=nats://nats:4222",
		"-e", "NATS_USER=operator", "-e", "NATS_PASSWORD=demo-operator", image(), "ordertrail", "replay", "analytics").CombinedOutput()
	if err != nil || !regexp.MustCompile(`the numbers stored for sequence \d+ were the same`).Match(out) {
		t.Errorf("replay: %v: %s", err, out)
	}

	s.compose(t, "--profile", "load", "up", "-d", "--no-build", "load")
	until(t, "orders keep coming", func() error {
		var a systemtest.Analytics
		if err := get(t, s.analytics+"/analytics", &a); err != nil {
			return err
		}
		if a.Orders.Created < placed+5 {
			return fmt.Errorf("%d orders, there were %d", a.Orders.Created, placed)
		}
		return nil
	})
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

// Three servers: while orders are placed each of them stops once. Every order that
// was taken is concluded, and the shop takes orders all the while.
func TestCluster(t *testing.T) {
	s := open(t, "docker-compose.yml", "docker-compose.cluster.yml")
	s.up(t)
	s.play(t, demo.Scenarios()...)
	placed := len(demo.Scenarios())
	shop := demo.Shop{URL: s.shop, Client: http.DefaultClient}
	for _, node := range []string{"nats", "nats-2", "nats-3"} {
		const orders = 300
		var out systemtest.Output
		loaded := make(chan error, 1)
		go func() {
			loaded <- load.Run(context.Background(), load.Options{URL: s.shop, Orders: orders, Concurrency: 8, Out: &out})
		}()
		s.compose(t, "stop", "--timeout", "1", node)
		for n := range 3 {
			order, err := demo.Play(context.Background(), shop, demo.Scenarios()[0])
			placed++
			if err != nil {
				t.Errorf("order %d %s while %s is stopped: %v", n, order.ID, node, err)
			}
		}
		if err := <-loaded; err != nil {
			t.Error(err)
		}
		t.Logf("%s stopped: %s", node, strings.TrimSpace(out.String()))
		placed += orders
		s.compose(t, "start", node)
		s.healthy(t)
	}
	s.counted(t, placed)
}
