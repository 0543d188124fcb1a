package process

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

var services = []string{orders.Name, payments.Name, inventory.Name, fulfillment.Name, notify.Name, analytics.Name}

// soon is a deadline that a test can wait for, and time enough for other orders.
const soon = "ORDER_DEADLINE=6s"

// play plays scenarios, all at once, taking the shops in turn.
func play(t *testing.T, scenarios []demo.Scenario, shops ...string) {
	t.Helper()
	var all sync.WaitGroup
	for i, sc := range scenarios {
		shop := demo.Shop{URL: shops[i%len(shops)], Client: http.DefaultClient}
		all.Go(func() { // no subtest, which would wait for its turn
			if _, err := systemtest.Play(context.Background(), shop, sc); err != nil {
				t.Errorf("%s: %v", sc.Name, err)
			}
		})
	}
	all.Wait()
}

// Services may start before NATS, and before the streams exist: until then they are alive
// and not ready. The same holds when NATS goes away.
func TestStartsBeforeNATS(t *testing.T) {
	full.Only(t)
	t.Parallel()
	port := freePort(t)
	server := &natsServer{url: "nats://127.0.0.1:" + port}
	var all []*process
	var addrs []string
	for _, name := range services {
		addr := "127.0.0.1:" + freePort(t)
		all = append(all, server.service(t, name, "HTTP_ADDR="+addr, "HEALTH_ADDR="+addr, soon))
		addrs = append(addrs, addr)
	}
	for i, p := range all {
		p.said(t, &p.stderr, "waiting for NATS")
		if got := status("http://" + addrs[i] + "/healthz"); got != http.StatusOK {
			t.Errorf("%s: healthz: status %d while it waits for NATS", p.name, got)
		}
		if got := status("http://" + addrs[i] + "/readyz"); got != http.StatusServiceUnavailable {
			t.Errorf("%s: readyz: status %d while it waits for NATS", p.name, got)
		}
	}
	shop := "http://" + addrs[0]
	if got := status(shop + "/orders"); got != http.StatusServiceUnavailable {
		t.Errorf("GET /orders: status %d while there is no NATS", got)
	}

	store := t.TempDir()
	server = startNATSOn(t, store, port)
	for _, p := range all {
		p.said(t, &p.stderr, notProvisioned)
	}
	server.provision(t)
	play(t, demo.Scenarios(), shop)
	server.provision(t) // a second time, beside the running services: harmless

	server.stopNATS(t)
	for _, p := range all {
		systemtest.Until(t, p.name+" is not ready", func() bool { return status(p.url(t)+"/readyz") == http.StatusServiceUnavailable })
		if got := status(p.url(t) + "/healthz"); got != http.StatusOK {
			t.Errorf("%s: healthz: status %d without NATS", p.name, got)
		}
	}
	startNATSOn(t, store, port)
	for _, p := range all {
		p.ready(t)
	}
	// Without the scenario that cancels: whether its request comes within the second that
	// the charge takes depends on how soon NATS answers again.
	play(t, slices.DeleteFunc(demo.Scenarios(), func(sc demo.Scenario) bool { return sc.Cancel }), shop)
}

// notProvisioned matches the log of a service that waits for the streams.
const notProvisioned = "run `ordertrail provision`|was `ordertrail provision` run"

// The log of a service has a line when it works after a wait, with how long the wait was,
// so that the last line does not say that it waits. It has a line when the service begins
// to stop, and one when it has stopped.
func TestLog(t *testing.T) {
	full.Only(t)
	t.Parallel()
	port := freePort(t)
	server := &natsServer{url: "nats://127.0.0.1:" + port}
	var all []*process
	for _, name := range append([]string{inventory.Name}, services...) { // one inventory stands by
		all = append(all, server.service(t, name))
	}
	for _, p := range all {
		p.said(t, &p.stderr, "waiting for NATS")
	}
	store := t.TempDir()
	server = startNATSOn(t, store, port)
	for _, p := range all {
		p.said(t, &p.stderr, `msg="connected to NATS" .*after=\d`)
		p.said(t, &p.stderr, notProvisioned)
	}
	server.provision(t)
	works := func() {
		t.Helper()
		for _, p := range all {
			p.ready(t)
			systemtest.Until(t, "the last line of "+p.name+" says that it works", func() bool {
				lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
				return strings.Contains(lines[len(lines)-1], "level=INFO")
			})
		}
	}
	works()
	for _, p := range all {
		p.said(t, &p.stderr, `msg="(ready again|can ask for the lease again)" .*after=\d`)
	}
	server.stopNATS(t)
	for _, p := range all {
		p.said(t, &p.stderr, "disconnected from NATS")
	}
	down := time.Now()
	systemtest.Until(t, "a request for messages has ended without an answer", func() bool { return time.Since(down) > 3*time.Second })
	for _, p := range all {
		if _, away, _ := strings.Cut(p.stderr.String(), "disconnected from NATS"); strings.Contains(away, "ready again") {
			t.Errorf("%s says that it works without NATS: %s", p.name, away)
		}
	}
	startNATSOn(t, store, port)
	for _, p := range all {
		p.said(t, &p.stderr, `msg="reconnected to NATS" .*after=\d`)
	}
	works()
	for _, p := range all {
		p.signal(t, syscall.SIGTERM)
	}
	exitAll(t, all)
	for _, p := range all {
		checkStopLogged(t, p)
		if strings.Contains(p.stderr.String(), "nats: nats: ") {
			t.Errorf("%s logs a prefix twice", p.name)
		}
	}
}

// checkStopLogged wants one line about the signal that stopped a service, and one that it
// has stopped as the last one.
func checkStopLogged(t *testing.T, p *process) {
	t.Helper()
	log := p.stderr.String()
	if n := strings.Count(log, `msg=stopping service=`+p.name+` reason="terminated signal received"`); n != 1 {
		t.Errorf("%s logs %d times why it stops", p.name, n)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "msg=stopped service="+p.name+" after=") {
		t.Errorf("the last line of %s is %s", p.name, last)
	}
}

// A service that waits for NATS stops on SIGTERM.
func TestStopsWhileWaiting(t *testing.T) {
	full.Only(t)
	t.Parallel()
	server := &natsServer{url: "nats://127.0.0.1:" + freePort(t)}
	for _, name := range []string{orders.Name, payments.Name} {
		p := server.service(t, name)
		p.said(t, &p.stderr, "waiting for NATS")
		p.stop(t)
		checkStopLogged(t, p)
	}
	server = startNATS(t)
	for _, name := range services {
		p := server.service(t, name)
		p.said(t, &p.stderr, notProvisioned)
		p.stop(t)
	}
}

// Wrong credentials end a service at once.
func TestCredentials(t *testing.T) {
	full.Only(t)
	t.Parallel()
	server := startNATS(t)
	for _, env := range [][]string{
		{"NATS_USER=", "NATS_PASSWORD="},
		{"NATS_USER=payments", "NATS_PASSWORD=wrong"},
		{"NATS_USER=nobody", "NATS_PASSWORD=wrong"},
	} {
		p := server.service(t, payments.Name, env...)
		if code := p.wait(t, patience); code == 0 {
			t.Errorf("%s: exit code 0", env)
		}
		if got := p.stderr.String(); !strings.Contains(got, "NATS_USER and NATS_PASSWORD") || strings.Contains(got, "wrong") {
			t.Errorf("%s: stderr: %s", env, got)
		}
	}
	p := server.service(t, payments.Name)
	p.said(t, &p.stderr, "msg=running")
}

// stopNATS ends the server in an orderly way.
func (n *natsServer) stopNATS(t testing.TB) {
	t.Helper()
	n.signal(t, syscall.SIGTERM)
	n.wait(t, patience)
}

// freePort returns a port that is free, and that no client's connection is given: it
// must be free again when the server on it comes back.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(15_000 + rand.IntN(15_000)) // below Linux' ephemeral ports
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
