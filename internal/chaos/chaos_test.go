// Package chaos tests what the whole project promises: whatever goes wrong, no
// order is lost or concluded twice, no charge, unit of stock or parcel either.
//
// A seed stands for a plan: random orders of every scenario, and faults at points
// of the services' work. It runs on the real server with every service in several
// replicas, and is audited from the stream and the world outside alone.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ordertrail/internal/embedded"
	"ordertrail/internal/system/systemtest"
)

var (
	stress  = flag.Bool("stress", false, "run many seeds")
	oneSeed = flag.Uint64("seed", 0, "run this seed alone")
)

// How long things take when they go wrong. Short, so that much goes wrong.
const (
	ackWait  = time.Second
	leaseTTL = time.Second
	deadline = 3 * time.Second
)

func TestChaos(t *testing.T)       { seeds(t, 3, oneServer) }
func TestStressChaos(t *testing.T) { stressOnly(t); seeds(t, 100, oneServer) }

func stressOnly(t *testing.T) {
	t.Helper()
	if !*stress && *oneSeed == 0 {
		t.Skip("takes long: go test -stress")
	}
}

// together is how many plans run at a time: they mostly wait.
const together = 6

// seeds runs so many plans.
func seeds(t *testing.T, n uint64, run func(*testing.T, plan)) {
	t.Helper()
	t.Parallel()
	first, last := uint64(1), n
	if *oneSeed > 0 {
		first, last = *oneSeed, *oneSeed
	}
	test := t.Name()
	var running errgroup.Group
	running.SetLimit(together)
	for seed := first; seed <= last; seed++ {
		running.Go(func() error {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("again: go test ./internal/chaos -run '^%s$' -seed %d", test, seed)
					}
				})
				run(t, newPlan(seed, usual))
			})
			return nil
		})
	}
	_ = running.Wait() // each reports for itself
}

// oneServer runs a plan on a server that is restarted at times.
func oneServer(t *testing.T, p plan) {
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	c := start(t, p, server.Connect, 1)
	c.restartNATS = server.Restart
	c.live()
	c.heal()
	c.audit()
	c.liveAgain()
}

// live has the customers place their orders, while the faults strike.
func (c *chaos) live() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	for i, p := range c.plan.purchases {
		c.customers.Go(func() { c.buy(ctx, i, p) })
	}
	c.customers.Wait()
}
