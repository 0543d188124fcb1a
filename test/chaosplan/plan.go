// Package chaosplan is what the chaos tests share: test/chaos, which harms
// deliveries, publishes and connections within one process, and test/process, which
// kills and freezes real processes.
//
// A seed determines a plan: random orders of every scenario, and faults at points of
// the services' work. How the services interleave is not part of it.
package chaosplan

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

var (
	stress   = flag.Bool("stress", false, "also run the heavier tests")
	oneSeed  = flag.Uint64("seed", 0, "run this seed of the chaos tests alone")
	seedsRun = flag.Uint64("seeds", 0, "run this number of seeds; 0: the test's default")

	// Patience is how long customers try, and how long the system may take to become
	// quiet when nothing fails any more.
	Patience = flag.Duration("patience", 2*systemtest.Patience, "how long to wait for quiet after the faults")
)

// StressOnly skips a test that takes long, unless -stress or -seed asks for it.
func StressOnly(t *testing.T) {
	t.Helper()
	if !*stress && *oneSeed == 0 {
		t.Skip("takes long: go test -stress")
	}
}

// Seeds runs the seeds from 1 to n, or those that the flags name, as subtests. So many
// run together at a time.
func Seeds(t *testing.T, n uint64, together int, run func(t *testing.T, seed uint64)) {
	t.Helper()
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
						t.Logf("to run this plan again: %s=full go test -run '^%s$' -seed %d", full.Variable, test, seed)
					}
				})
				run(t, seed)
			})
			return nil
		})
	}
	_ = running.Wait() // each subtest reports its own failure
}

// Random is a seed's source of random numbers.
func Random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// UpTo draws a duration below d.
func UpTo(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

// Purchase is one order that a customer places.
type Purchase struct {
	Scenario demo.Scenario
	After    time.Duration // from the start
	Cancel   time.Duration // after the shop took the order; 0: never
}

// Purchases draws n purchases within a time. A third of them are happy, the others any
// scenario; some compete for the last unit; some are cancelled within change.
func Purchases(random *rand.Rand, n int, within, change time.Duration) []Purchase {
	scenarios := demo.Scenarios()
	all := make([]Purchase, n)
	for i := range all {
		sc := scenarios[0]
		if random.IntN(3) > 0 {
			sc = scenarios[random.IntN(len(scenarios))]
		}
		if random.IntN(8) == 0 {
			sc.SKUs = append([]string{"LAST-ONE"}, sc.SKUs...)
		}
		all[i] = Purchase{Scenario: sc, After: UpTo(random, within)}
		if sc.Cancel || random.IntN(5) == 0 {
			all[i].Cancel = 1 + UpTo(random, change)
		}
	}
	return all
}

// Trigger is the N-th time that any replica passes a point: an effect outside
// ("charge") or an event ("payments.confirmed").
type Trigger struct {
	Point string
	N     int
}

// Points counts how often each point is passed, and finds the faults that wait there.
type Points[Fault any] struct {
	Faults map[Trigger]Fault

	mu     sync.Mutex
	passed map[string]int
}

// Pass counts a point, and returns the fault that the plan has for this time.
func (p *Points[Fault]) Pass(point string) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passed == nil {
		p.passed = map[string]int{}
	}
	p.passed[point]++
	f, ok := p.Faults[Trigger{point, p.passed[point]}]
	return f, ok
}
