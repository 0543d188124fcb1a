// Package compose tests docker-compose.yml with a Docker engine: containers, networks,
// volumes and health checks. scripts/verify-compose builds the image and runs these tests.
package compose

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/test/systemtest"
)

var command = flag.String("compose", "", "how docker compose is called here; without it there are no tests")

var services = []string{"orders", "payments", "inventory", "fulfillment", "notify", "analytics"}

// The complete stack plays every scenario, with its mails, traces and trail. Then each
// service and NATS are killed once, and Jaeger is away for a while. Then it runs with more
// replicas, with a steady load, and with the tool trail.
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
	until(t, "the shop refuses orders", func() error {
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

	out, err := s.operator(t, "demo-operator", "replay", "analytics")
	words := strings.Join(strings.Fields(out), " ") // the output has 80 columns at most
	if err != nil || !regexp.MustCompile(`the numbers stored for sequence \d+ were the same`).MatchString(words) {
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

	// With the profile trail, the tool gets all traces, and Jaeger gets them from it.
	t.Setenv("OTLP_ENDPOINT", "http://trail:4318")
	t.Setenv("OTLP_HEADERS", "Authorization=Bearer%20demo-trail")
	s.compose(t, "--profile", "trail", "up", "-d", "--no-build")
	s.healthy(t)
	last := s.play(t, scenarios[0])
	s.told(t, last[0])
}

// On three servers, each of which stops once while orders are placed, the shop keeps
// taking orders, and every order is concluded. All passwords of the demo are replaced.
func TestCluster(t *testing.T) {
	replacePasswords(t)
	// The unacknowledged messages of a stopped server are delivered again after ten seconds,
	// and a leader may be missing for nine. No order must end by its deadline meanwhile.
	t.Setenv("ORDER_DEADLINE", "60s")
	s := open(t, "docker-compose.yml", "docker-compose.cluster.yml")
	s.up(t)
	// Without the scenarios that end by the deadline, or that depend on how fast three
	// servers agree.
	scenarios := slices.DeleteFunc(demo.Scenarios(), func(sc demo.Scenario) bool { return sc.Cancel || sc.Want.Reason == event.ReasonDeadline })
	s.play(t, scenarios...)
	placed := len(scenarios)
	if out, err := s.operator(t, "demo-operator", "deadletters"); err == nil || !strings.Contains(out, "NATS refuses the credentials") {
		t.Errorf("with the demo's password: %v: %s", err, out)
	}
	if out, err := s.operator(t, os.Getenv("NATS_PASSWORD_OPERATOR"), "deadletters"); err != nil {
		t.Errorf("with its own password: %v: %s", err, out)
	}
	for _, node := range []string{"nats", "nats-2", "nats-3"} {
		var out systemtest.Output
		shop := func(orders, customers int) error {
			return load.Run(context.Background(), load.Options{URL: s.shop, Orders: orders, Concurrency: customers, Out: &out})
		}
		loaded := make(chan error, 1)
		go func() { loaded <- shop(300, 8) }()
		s.compose(t, "stop", "--timeout", "1", node)
		if err := shop(3, 1); err != nil {
			t.Errorf("while %s is stopped: %v", node, err)
		}
		if err := <-loaded; err != nil {
			t.Error(err)
		}
		placed += 300 + 3
		t.Logf("%s stopped: %s", node, strings.TrimSpace(out.String()))
		s.compose(t, "start", node)
		s.healthy(t)
	}
	s.counted(t, placed)
}
