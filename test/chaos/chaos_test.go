// Package chaos tests what the whole project promises: whatever goes wrong, no
// order is lost or concluded twice, no charge, unit of stock or parcel either.
//
// A seed stands for a plan: random orders of every scenario, and faults at points
// of the services' work. It runs on the real server with every service in several
// replicas, and is audited from the stream and the world outside alone.
package chaos

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

var (
	stress   = flag.Bool("stress", false, "run many seeds")
	oneSeed  = flag.Uint64("seed", 0, "run this seed alone")
	seedsRun = flag.Uint64("seeds", 0, "run so many seeds; default: by test")
	patience = flag.Duration("patience", 2*systemtest.Patience, "how long to wait for quiet after the trouble")
)

// How long things take when they go wrong. Short, so that much goes wrong.
const (
	ackWait  = time.Second
	leaseTTL = 1500 * time.Millisecond
	deadline = 3 * time.Second

	nodeAway      = time.Second
	stepDownEvery = 200 * time.Millisecond
)

func TestChaos(t *testing.T)       { seeds(t, 3, oneServer) }
func TestStressChaos(t *testing.T) { stressOnly(t); seeds(t, 100, oneServer) }

func TestChaosCluster(t *testing.T)       { seeds(t, 1, threeNodes) }
func TestStressChaosCluster(t *testing.T) { stressOnly(t); seeds(t, 20, threeNodes) }

func stressOnly(t *testing.T) {
	t.Helper()
	if !*stress && *oneSeed == 0 {
		t.Skip("takes long: go test -stress")
	}
}

// together is how many plans run at a time: they mostly wait.
const together = 4

// seeds runs so many plans.
func seeds(t *testing.T, n uint64, run func(*testing.T, plan)) {
	t.Helper()
	t.Parallel()
	first, last := uint64(1), n
	if *seedsRun > 0 {
		last = *seedsRun
	}
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
						t.Logf("again: go test ./test/chaos -run '^%s$' -seed %d", test, seed)
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

// threeNodes runs a plan on a cluster, in which what would restart the server
// stops one node for a while, and leaders keep stepping down.
func threeNodes(t *testing.T, p plan) {
	cluster, err := embedded.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c := start(t, p, cluster.Connect, 3)
	node := 0
	c.restartNATS = func() error {
		node = (node + 1) % cluster.Size()
		cluster.Stop(node)
		select {
		case <-time.After(nodeAway):
		case <-c.calm.Done():
		}
		if err := cluster.Start(node); err != nil {
			return err
		}
		if !until(cluster.Whole) {
			return errors.New("the cluster does not become whole again")
		}
		return nil
	}
	stepDowns := c.stepDown()
	c.live()
	c.heal()
	if n := stepDowns(); n == 0 {
		t.Error("no leader stepped down")
	}
	c.audit()
	c.liveAgain()
}

// stepDown has the leaders of the streams and consumers resign in turn until the
// trouble ends. It returns a function that says how often one did.
func (c *chaos) stepDown() func() int {
	subjects := []string{
		"STREAM.LEADER.STEPDOWN." + stream.OrdersStream, "STREAM.LEADER.STEPDOWN." + stream.DeadlinesStream,
		"STREAM.LEADER.STEPDOWN." + stream.DeadLettersStream, "STREAM.LEADER.STEPDOWN.KV_" + stream.LeasesBucket,
	}
	for _, d := range app.Durables() {
		subjects = append(subjects, "CONSUMER.LEADER.STEPDOWN."+d.Stream+"."+d.Name)
	}
	n := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for turn := 0; c.calm.Err() == nil; turn++ {
			answer, err := c.sys.JetStream().Conn().Request("$JS.API."+subjects[turn%len(subjects)], nil, time.Second)
			if err == nil && bytes.Contains(answer.Data, []byte(`"success":true`)) {
				n++
			}
			select {
			case <-time.After(stepDownEvery):
			case <-c.calm.Done():
			}
		}
	}()
	return func() int { <-done; return n }
}

// until polls until ok, or until patience is over.
func until(ok func() bool) bool {
	for deadline := time.Now().Add(*patience); !ok(); {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(10 * time.Millisecond)
	}
	return true
}

// live has the customers place their orders, while the faults strike.
func (c *chaos) live() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	for i, p := range c.plan.purchases {
		c.customers.Go(func() { c.buy(ctx, i, p) })
	}
	c.customers.Wait()
}
