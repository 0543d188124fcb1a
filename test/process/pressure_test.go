package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

// Orders come faster than the services handle them. Each is taken, or its customer is
// asked to come back later; no process needs more memory for it, and all orders ship.
func TestBackPressure(t *testing.T) {
	full.Only(t)
	t.Parallel()
	testBackPressure(t, 300)
}

// Here they are more than the shop can take.
func TestStressBackPressure(t *testing.T) {
	chaosplan.StressOnly(t)
	if out := testBackPressure(t, 20_000); strings.Contains(out, "\n0 requests repeated\n") {
		t.Errorf("no order was refused, the test has shown nothing: %s", out)
	}
}

// mostMemory is what a process may have had resident at its peak, in MiB: about three
// times what was measured on 2 cores, 55 to 75 for the NATS server, 44 for orders and 24
// for each of the others.
const mostMemory = 200

// testBackPressure places so many orders at once, and returns the report of the load.
func testBackPressure(t *testing.T, n int) string {
	t.Helper()
	server := startNATS(t)
	server.provision(t)
	running, shop := fleet(t, server)
	var out systemtest.Output
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	if err := load.Run(ctx, load.Options{URL: shop.URL, Orders: n, Concurrency: 256, Burst: true, Out: &out}); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
	ledger := systemtest.Quiet{Orders: n, Patience: 5 * patience}.Await(t, server.jetStream(t))
	ledger.Audit(t, nil)
	if got := len(ledger.Orders); got != n {
		t.Errorf("%d orders are stored, want %d", got, n)
	}
	if _, err := demo.Play(ctx, shop, demo.Scenarios()[0]); err != nil {
		t.Errorf("an order afterwards: %v", err)
	}
	all := []*process{server.process}
	for _, p := range running {
		all = append(all, p)
	}
	checkMemory(t, all)
	for _, p := range all[1:] {
		p.signal(t, syscall.SIGTERM)
	}
	exitAll(t, all[1:])
	return out.String()
}

// checkMemory checks what the processes had resident at their peak, on Linux.
func checkMemory(t *testing.T, all []*process) {
	t.Helper()
	for _, p := range all {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if errors.Is(err, fs.ErrNotExist) {
			t.Logf("memory is not checked: %v", err)
			return
		}
		_, peak, _ := strings.Cut(string(status), "\nVmHWM:")
		var kib int
		if _, err := fmt.Sscanf(peak, "%d kB", &kib); err != nil {
			t.Fatalf("VmHWM of %s: %v", p.name, err)
		}
		t.Logf("%-11s %3d MiB", p.name, kib>>10)
		if race := slices.Contains(buildFlags, "-race"); kib>>10 > mostMemory && !race { // the detector needs several times as much
			t.Errorf("%s had %d MiB resident, %d are allowed", p.name, kib>>10, mostMemory)
		}
	}
}

// customersClient keeps connections for many customers.
var customersClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
