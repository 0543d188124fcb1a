package process

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

var anyPort = []string{"HTTP_ADDR=127.0.0.1:0"}

// The demo prints every event of every scenario, and leaves no files behind.
func TestOnce(t *testing.T) {
	t.Parallel()
	p, code := run(t, anyPort, "ordertrail", "--once")
	// The log has one line, about the dead letter.
	if got := p.stderr.String(); code != 0 || strings.Count(got, "\n") != 1 || !strings.Contains(got, "made an event a dead letter") {
		t.Errorf("exit code %d, stderr: %s", code, got)
	}
	story := p.stdout.String()
	for _, sc := range demo.Scenarios() {
		_, chapter, _ := strings.Cut(story, "\n"+sc.Name+": "+sc.Story+"\n")
		chapter, _, _ = strings.Cut(chapter, "\n\n")
		lines := strings.Split(chapter, "\n")
		if last := lines[len(lines)-1]; strings.HasPrefix(last, "  dead letter payments.") != (sc.Name == "poison") {
			t.Errorf("%s: the last line is %q", sc.Name, last)
		} else if sc.Name == "poison" {
			lines = lines[:len(lines)-1]
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
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
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

// The error of a wrong command line names the mistake and the valid choices.
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
		{"restock LAST-ONE 0", []string{"restock", `"0"`, "1 or more"}},
		{"restock NO-SUCH 5", []string{"restock", `"NO-SUCH"`, "LAST-ONE"}},
		{"deadletters what", []string{"deadletters", "list, show ID"}},
		{"deadletters show", []string{"deadletters", "list, show ID"}},
		{"deadletters redrive", []string{"deadletters", "redrive --all"}},
		{"deadletters list payments.1", []string{"deadletters", "list, show ID"}},
		{"replay", []string{"replay analytics"}},
		{"replay payments", []string{"replay analytics", "effects"}},
		{"demo --once --nats nowhere", []string{"--nats", "nowhere"}},
		{"load -orders 0", []string{"-orders", "1 or more"}},
		{"load -orders many", []string{"-orders", `"many"`}},
		{"load -customers 3", []string{"load", "-customers"}},
		{"healthcheck", []string{"healthcheck", "URL"}},
		{"healthcheck localhost", []string{"healthcheck", "URL"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			p, code := run(t, anyPort, "ordertrail", strings.Fields(tt.args)...)
			refused(t, p, code, tt.want...)
		})
	}
	for _, args := range []string{"help", "-h", "--help", "load -h", "demo -h", "provision -h"} {
		p, code := run(t, nil, "ordertrail", strings.Fields(args)...)
		if got := p.stdout.String(); code != 0 || !strings.Contains(got, "healthcheck URL") || p.stderr.String() != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, got, &p.stderr)
		}
	}
}

// restock, load and healthcheck work on a running system.
func TestCommands(t *testing.T) {
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
		!strings.HasPrefix(p.stdout.String(), "100 orders in ") || !strings.Contains(p.stdout.String(), " 0 failed") {
		t.Errorf("load: exit code %d: %s %s", code, &p.stdout, &p.stderr)
	}
	p, code = run(t, nil, "ordertrail", "load", "-url", "http://127.0.0.1:"+freePort(t), "-orders", "3")
	if got := p.stderr.String(); code == 0 || !strings.Contains(got, "3 of 3 orders failed") || !strings.Contains(got, "refused") {
		t.Errorf("load of nobody: exit code %d: %s", code, got)
	}
}
