package system_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/test/systemtest"
)

// The same race on three servers with three replicas of everything, while the
// leaders of the stream and of the consumer keep stepping down.
func TestStressFanInCluster(t *testing.T) {
	t.Parallel()
	orders := 100
	if *stress {
		orders = 2000
	}
	world := systemtest.NewWorld()
	sys := systemtest.StartOn(t, cluster(t).Connect, fanInAlone(world, 2), replicated)
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	stop := stepDown(t, sys)
	race(t, client, orders)
	ledger := settleFanIn(t, sys, orders)
	if n := stop(); n == 0 {
		t.Error("no leader stepped down")
	} else {
		t.Logf("%d leaders stepped down", n)
	}
	ledger.Audit(t, world)
}

// All six services on three servers, and every scenario but the customer who
// cancels: whether that comes within the second that the charge takes depends on
// how fast three servers agree.
func TestScenariosCluster(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	sys := systemtest.StartOn(t, cluster(t).Connect, world.Use, replicated, systemtest.Deadline(soon))
	var playing sync.WaitGroup
	scenarios := slices.DeleteFunc(demo.Scenarios(), func(sc demo.Scenario) bool { return sc.Cancel })
	for _, sc := range scenarios {
		playing.Go(func() {
			if _, err := demo.Play(context.Background(), sys.Shop, sc); err != nil {
				t.Errorf("%s: %v", sc.Name, err)
			}
		})
	}
	playing.Wait()
	systemtest.Settle(t, sys.JetStream(), len(scenarios)).Audit(t, world)
}

func replicated(cfg *app.Config) { cfg.Topology.Replicas = 3 }

func cluster(t *testing.T) *embedded.Cluster {
	t.Helper()
	c, err := embedded.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// stepDown has the leaders of the stream and of fulfillment's consumer resign, in
// turn, until the function it returns is called, which says how often they did.
func stepDown(t *testing.T, sys *systemtest.System) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	go func() {
		n := 0
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for turn := 0; ; turn++ {
			if n > 0 { // at least once, however fast the orders are
				select {
				case <-ctx.Done():
					done <- n
					return
				case <-tick.C:
				}
			}
			subject := "$JS.API.STREAM.LEADER.STEPDOWN." + stream.OrdersStream
			if turn%2 == 1 {
				subject = "$JS.API.CONSUMER.LEADER.STEPDOWN." + stream.OrdersStream + "." + fulfillment.Name
			}
			if ctx.Err() != nil && turn > 10 {
				done <- n
				return
			}
			answer, err := sys.JetStream().Conn().Request(subject, nil, time.Second)
			if err == nil && bytes.Contains(answer.Data, []byte(`"success":true`)) {
				n++
			}
		}
	}()
	return func() int { cancel(); return <-done }
}
