package process

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

var anyPort = []string{"HTTP_ADDR=127.0.0.1:0"}

// A demo that listens at all addresses is reached by its own customers.
func TestAllAddresses(t *testing.T) {
	full.Only(t)
	t.Parallel()
	if p, code := run(t, []string{"HTTP_ADDR=:0"}, "ordertrail", "--once", "--nats", "none"); code != 0 {
		t.Errorf("exit code %d: %s", code, &p.stderr)
	}
}

// The demo prints every event of every scenario, and leaves no files behind.
func TestOnce(t *testing.T) {
	t.Parallel()
	p, code := run(t, anyPort, "ordertrail", "--once")
	// The log has one line, about the dead letter.
	if got := p.stderr.String(); code != 0 || strings.Count(got, "\n") != 1 || !strings.Contains(got, "made an event a dead letter") {
		t.Errorf("exit code %d, stderr: %s", code, got)
	}
	story := p.stdout.String()
	checkColumns(t, story)
	for _, sc := range demo.Scenarios() {
		_, chapter, _ := strings.Cut(story, "\n"+sc.Name+": "+sc.Story+"\n")
		chapter, _, _ = strings.Cut(chapter, "\n\n")
		lines := strings.Split(chapter, "\n")
		if sc.Name == "poison" {
			last := lines[len(lines)-2:]
			if !strings.HasPrefix(last[0], "  dead letter payments.") || last[1] != "    card gateway: internal error" {
				t.Errorf("the last lines are %q", last)
			}
			lines = lines[:len(lines)-2]
		}
		if len(lines) != len(sc.Want.Events) {
			t.Errorf("%s: %d lines of %d events", sc.Name, len(lines), len(sc.Want.Events))
		}
		for _, e := range sc.Want.Events {
			if !strings.Contains(chapter, " "+string(e)+" ") {
				t.Errorf("%s: nothing about %s:\n%s", sc.Name, e, chapter)
			}
		}
	}
	if got := strings.Count(story, "  as expected\n"); got != len(demo.Scenarios()) {
		t.Errorf("%d scenarios as expected:\n%s", got, story)
	}
	if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A store is kept, used again by the next run, and by one process at a time.
func TestStore(t *testing.T) {
	full.Only(t)
	t.Parallel()
	dir := t.TempDir()
	if p, code := run(t, anyPort, "ordertrail", "--once", "--store", dir); code != 0 {
		t.Fatalf("first run: exit code %d: %s", code, &p.stderr)
	}
	second := start(t, anyPort, "ordertrail", "--store", dir)
	url := second.said(t, &second.stdout, `Try:\n  curl (http://\S+)/orders`)

	p, code := run(t, anyPort, "ordertrail", "--once", "--store", dir)
	refused(t, p, code, "in use by another process", dir)

	second.signal(t, os.Interrupt)
	if code := second.wait(t, 5*time.Second); code != 0 {
		t.Errorf("second run: exit code %d on Ctrl-C", code)
	}
	if got := status(url + "/orders"); got != 0 {
		t.Errorf("GET /orders after Ctrl-C: status %d", got)
	}

	server, err := embedded.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(systemtest.Read(t, js).Orders), 2*len(demo.Scenarios()); got != want {
		t.Errorf("%d orders are stored, want %d", got, want)
	}
}

// Ctrl-C ends the demo while it plays, too.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE} {
		once := start(t, anyPort, "ordertrail", "demo", "--once")
		once.said(t, &once.stdout, `orders\.created`)
		once.signal(t, s)
		if code := once.wait(t, 5*time.Second); code != 1 || !strings.Contains(once.stderr.String(), "interrupted before all scenarios") {
			t.Errorf("--once: exit code %d on %s: %s", code, s, &once.stderr)
		}
		p := start(t, anyPort, "ordertrail", "demo")
		p.said(t, &p.stdout, `orders\.created`)
		p.signal(t, s)
		if code := p.wait(t, 5*time.Second); code != 0 {
			t.Errorf("exit code %d on %s: %s", code, s, &p.stderr)
		}
		if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// The error of a wrong command line names the mistake and the valid choices. The exit code
// is 2.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"serve", []string{`unknown command "serve"`, "demo", "provision", "restock", "deadletters", "replay", "load", "healthcheck"}},
		{"--twice", []string{"-twice", "go run . help"}},
		{"demo --once now", []string{`unexpected "now"`}},
		{"--store", []string{"-store", "needs an argument"}},
		{"provision --force", []string{"provision", "-force"}},
		{"provision now", []string{"provision", `"now"`}},
		{"restock", []string{"restock", "an SKU and a number"}},
		{"restock LAST-ONE", []string{"restock", "an SKU and a number"}},
		{"restock LAST-ONE none", []string{"restock", `"none"`, "1 or more"}},
		{"restock LAST-ONE -5", []string{"restock", `"-5"`, "1 or more"}},
		{"restock --wait 1s -5 LAST-ONE", []string{"restock", `"LAST-ONE"`, "1 or more"}},
		{"restock LAST-ONE 0", []string{"restock", `"0"`, "1 or more"}},
		{"restock NO-SUCH 5", []string{"restock", `"NO-SUCH"`, "LAST-ONE"}},
		{"deadletters what", []string{"deadletters", "list, show ID"}},
		{"deadletters show", []string{"deadletters", "list, show ID"}},
		{"deadletters redrive", []string{"deadletters", "redrive --all"}},
		{"deadletters redrive payments.1 nope", []string{"deadletters", `"nope" is not the id of a dead letter`}},
		{"deadletters list payments.1", []string{"deadletters", "list, show ID"}},
		{"replay", []string{"replay analytics"}},
		{"replay payments", []string{"replay analytics", "effects"}},
		{"demo --once --nats nowhere", []string{"--nats", "nowhere"}},
		{"demo --nats 0.0.0.0:0", []string{"--nats", "loopback", "127.0.0.1:4222", "0.0.0.0:0"}},
		{"load -orders 0", []string{"want 1 to 10000000 -orders"}},
		{"load -orders many", []string{"-orders", `"many"`}},
		{"load -every 1s -burst", []string{"-every", "-burst"}},
		{"load -orders 5 -every 1s", []string{"-every", "-orders"}},
		{"load -every 1s -concurrency 5", []string{"-every", "-concurrency"}},
		{"load -every 0s", []string{"-every", "more than 0"}},
		{"load -orders 99999999999", []string{"load", "want 1 to 10000000 -orders"}},
		{"load -orders 10 -concurrency 3000000", []string{"load", "1 to 10000 customers at once"}},
		{"load -url=", []string{"load", "--url is empty"}},
		{"load -customers 3", []string{"load", "-customers"}},
		{"healthcheck", []string{"healthcheck", "URL"}},
		{"load -url 127.0.0.1:8080", []string{"load", `"127.0.0.1:8080" is not a URL such as http://127.0.0.1:8080`}},
		{"load -every 1s -url localhost:8080", []string{"load", "is not a URL such as http://127.0.0.1:8080"}},
		{"trail", []string{"trail", "the id of an order"}},
		{"trail -url 127.0.0.1:8080 0123456789abcdef", []string{"trail", `"127.0.0.1:8080" is not a URL such as http://127.0.0.1:8080`}},
		{"trail 0123456789abcdef more", []string{"trail", `"more"`}},
		{"healthcheck localhost", []string{"healthcheck", "URL"}},
		{"healthcheck http://", []string{"healthcheck", "URL"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			p, code := run(t, anyPort, "ordertrail", strings.Fields(tt.args)...)
			refused(t, p, code, tt.want...)
			if code != 2 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	for _, args := range []string{"deadletters", "restock LAST-ONE 1", "replay analytics"} {
		p, code := run(t, []string{"NATS_URL=nats://127.0.0.1:" + freePort(t)}, "ordertrail", strings.Fields(args+" --wait 100ms")...)
		if code != 1 || !strings.Contains(p.stderr.String(), "NATS does not answer: start the server") {
			t.Errorf("%s without NATS: exit code %d, %s", args, code, &p.stderr)
		}
	}
	for _, service := range []string{"payments", "ordertrail"} {
		args := []string{"extra"}
		if service == "ordertrail" {
			args = []string{"payments", "extra"}
		}
		p, code := run(t, nil, service, args...)
		refused(t, p, code, `unexpected "extra"`)
		if code != 2 {
			t.Errorf("%s: exit code %d", service, code)
		}
	}
	if p, code := run(t, nil, "payments", "--help"); code != 0 || !strings.Contains(p.stdout.String(), "It takes no arguments") {
		t.Errorf("payments --help: exit code %d, %s %s", code, &p.stdout, &p.stderr)
	}
	for _, args := range []string{"help", "-h", "--help", "load -h", "demo -h", "provision -h"} {
		p, code := run(t, nil, "ordertrail", strings.Fields(args)...)
		if got := p.stdout.String(); code != 0 || !strings.Contains(got, "healthcheck URL") || p.stderr.String() != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, got, &p.stderr)
		}
		checkColumns(t, p.stdout.String())
	}
}

// restock, load and healthcheck work on a running system.
func TestCommands(t *testing.T) {
	full.Only(t)
	t.Parallel()
	server := startNATS(t)
	server.provision(t)
	_, shop := fleet(t, server)
	url := shop.URL
	if p, code := run(t, nil, "ordertrail", "healthcheck", url+"/readyz"); code != 0 {
		t.Errorf("healthcheck: exit code %d: %s", code, &p.stderr)
	}
	p, code := run(t, nil, "ordertrail", "healthcheck", url+"/nothing")
	refused(t, p, code, "404")
	p, code = run(t, nil, "ordertrail", "healthcheck", "http://127.0.0.1:"+freePort(t)+"/readyz")
	refused(t, p, code, "refused")

	last := demo.Scenario{Scenario: scenario.Scenario{Token: "tok_ok", SKUs: []string{"LAST-ONE"}, Addr: "1 Trailhead Way"}, Want: demo.Want{State: orders.StateShipped}}
	ends := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		order, err := shop.Place(ctx, last)
		if err != nil {
			t.Fatal(err)
		}
		order, err = shop.Await(ctx, order.ID, func(o orders.Order) bool { return o.State == orders.StateShipped || o.State == orders.StateCancelled })
		if err != nil || order.State != want {
			t.Errorf("the order is %s, not %s: %v", order.State, want, err)
		}
	}
	ends(orders.StateShipped)
	ends(orders.StateCancelled)
	if p, code := run(t, append(as("operator"), "NATS_URL="+server.url), "ordertrail", "restock", "LAST-ONE", "1"); code != 0 || !strings.Contains(p.stdout.String(), "1 more of LAST-ONE") {
		t.Errorf("restock: exit code %d: %s %s", code, &p.stdout, &p.stderr)
	}
	ends(orders.StateShipped)
	ends(orders.StateCancelled)

	if p, code := run(t, nil, "ordertrail", "load", "-url", url, "-orders", "100", "-concurrency", "8"); code != 0 ||
		!strings.HasPrefix(p.stdout.String(), "0 of 100 orders failed\n100 orders in ") {
		t.Errorf("load: exit code %d: %s %s", code, &p.stdout, &p.stderr)
	}
	p, code = run(t, nil, "ordertrail", "load", "-url", "http://127.0.0.1:"+freePort(t), "-orders", "3")
	refused(t, p, code, "all 3 orders failed", "refused")
	steady := start(t, nil, "ordertrail", "load", "-url", url, "-every", "20ms")
	steady.said(t, &steady.stdout, `happy: order`)
	steady.signal(t, os.Interrupt)
	if code := steady.wait(t, patience); code != 0 || !strings.Contains(steady.stdout.String(), "\n0 orders failed\n") {
		t.Errorf("load -every: exit code %d: %s %s", code, &steady.stdout, &steady.stderr)
	}
	// More orders than any machine handles before the interrupt.
	many := start(t, nil, "ordertrail", "load", "-url", url, "-orders", "1000000", "-concurrency", "2")
	many.said(t, &many.stderr, `(\d+) of 1000000 ended`)
	many.signal(t, os.Interrupt)
	if code := many.wait(t, patience); code != 1 || !strings.HasPrefix(many.stdout.String(), "0 of 1000000 orders failed\ninterrupted: ") ||
		!strings.Contains(many.stderr.String(), "load: interrupted after ") {
		t.Errorf("load: exit code %d on Ctrl-C: %s %s", code, &many.stdout, &many.stderr)
	}
}

// A command whose output is lost fails.
func TestLostOutput(t *testing.T) {
	t.Parallel()
	shop := systemtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id":"x","state":"shipped","orders":[{"id":"a"},{"id":"b"}]}`))
	}))
	for _, args := range []string{"help", "load -h", "load -orders 1 -url " + shop, "trail 0123456789abcdef -url " + shop} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		defer func() { _ = full.Close() }()
		var stderr bytes.Buffer
		cmd := exec.Command(binary(t, "ordertrail"), strings.Fields(args)...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), "ordertrail: write /dev/stdout: no space left on device\n") {
			t.Errorf("%s: exit code %d, %s", args, code, &stderr)
		}
	}
}
