package process

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
)

// plan is what a seed stands for: who orders what and when, and what goes wrong
// where. The seed decides all of it; how the processes interleave it cannot.
type plan struct {
	seed uint64
	size
	replicas  map[string]int // of each service; who dies gets a successor
	purchases []purchase
	expected  map[string]int // how often each point is passed if nothing goes wrong
	faults    map[trigger]fault
	timed     []timedFault
}

// size is how much happens in a plan.
type size struct {
	orders       int
	within       time.Duration // in which they are placed
	faults       int           // that wait for their trigger
	timed        int           // that do not
	doomed       int           // orders for which an effect kills who has it, again and again
	writers      int           // of inventory, that are replaced while frozen
	mostReplicas int           // of a service, from 2
	binaries     bool          // all six services are the real binaries
}

var (
	moderate = size{orders: 100, within: 3 * time.Second, faults: 10, timed: 5, doomed: 1, writers: 2, mostReplicas: 2}
	heavy    = size{orders: 400, within: 14 * time.Second, faults: 30, timed: 10, doomed: 4, writers: 3, mostReplicas: 3}
)

// purchase is one order to be placed.
type purchase struct {
	scenario demo.Scenario
	after    time.Duration // from the start
	cancel   time.Duration // after it was taken; 0: never
}

// trigger is the n-th time that a service has an effect outside ("charge") or
// sends an event to the stream ("payments.confirmed").
type trigger struct {
	point string
	n     int
}

// fault is what happens then.
type fault struct {
	harm   harm
	moment moment        // of an effect
	delay  time.Duration // from an answer or an event to the harm
	hold   time.Duration // until it goes on, or its successor starts
	which  int           // draws one of several replicas
	again  int           // how often it strikes whoever tries the same effect for the same order again
}

// timedFault is one that waits for nothing.
type timedFault struct {
	fault
	service string
	writer  bool          // the one of inventory's replicas
	at      time.Duration // from the start
}

type harm string

const (
	kill      harm = "SIGKILL"
	freeze    harm = "SIGSTOP"
	terminate harm = "SIGTERM"
	restart   harm = "SIGKILL of NATS"
)

// moment tells when a fault strikes whoever has an effect.
type moment string

const (
	asked    moment = "asked"    // before it happens; who dies then has had no effect
	done     moment = "done"     // it has happened, and nobody told the caller
	answered moment = "answered" // the caller was told a moment ago
)

// letters names the mail that each event calls for.
var letters = map[event.Type]event.Type{
	event.OrderCreated:         event.NotifyReceived,
	event.FulfillmentShipped:   event.NotifyShipped,
	event.FulfillmentCancelled: event.NotifyCancelled,
	event.PaymentRefunded:      event.NotifyRefunded,
}

func newPlan(seed uint64, s size) plan {
	random := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed, size: s, replicas: map[string]int{}, expected: map[string]int{}, faults: map[trigger]fault{}}
	for _, name := range services {
		p.replicas[name] = 2 + random.IntN(s.mostReplicas-1)
	}
	p.order(random)

	points := slices.Sorted(maps.Keys(p.expected))
	for len(p.faults) < s.faults {
		point := points[random.IntN(len(points))]
		p.faults[p.draw(random, point)] = drawFault(random, point)
	}
	// In every plan somebody dies between each effect and what is said of it, and for
	// some orders all do who try again, until the event is given up.
	effects := slices.DeleteFunc(points, func(point string) bool { return strings.Contains(point, ".") })
	for _, effect := range effects {
		p.faults[p.draw(random, effect)] = fault{harm: kill, moment: done, hold: drawHold(random, kill)}
	}
	for range s.doomed {
		at := trigger{effects[random.IntN(len(effects))], 1 + random.IntN(4)}
		p.faults[at] = fault{harm: kill, moment: done, hold: drawHold(random, kill), again: 4}
	}
	for i := range s.writers {
		p.replaceWriter(random, time.Duration(i)*s.within/time.Duration(s.writers))
	}
	// Those leave inventory alone: its writers have enough to go through.
	others := slices.DeleteFunc(slices.Clone(services), func(name string) bool { return name == inventory.Name })
	for range s.timed {
		f := timedFault{service: others[random.IntN(len(others))], at: upTo(random, s.within)}
		f.harm = [...]harm{kill, kill, freeze, terminate}[random.IntN(4)]
		f.hold, f.which = drawHold(random, f.harm), random.IntN(s.mostReplicas)
		p.timed = append(p.timed, f)
	}
	// Rather late: who is frozen when NATS goes has lost its connection when it awakes.
	p.timed = append(p.timed, timedFault{
		fault: fault{harm: restart, hold: upTo(random, 500*time.Millisecond)}, at: s.within*2/3 + upTo(random, s.within/3),
	})
	return p
}

// order draws the purchases.
func (p *plan) order(random *rand.Rand) {
	scenarios := demo.Scenarios()
	for range p.size.orders {
		sc := scenarios[0]
		if random.IntN(3) > 0 {
			sc = scenarios[random.IntN(len(scenarios))]
		}
		if random.IntN(8) == 0 {
			sc.SKUs = append([]string{"LAST-ONE"}, sc.SKUs...) // several want it
		}
		one := purchase{scenario: sc, after: upTo(random, p.within)}
		if sc.Cancel || random.IntN(5) == 0 {
			one.cancel = 1 + upTo(random, 800*time.Millisecond)
		}
		p.purchases = append(p.purchases, one)
		for _, e := range sc.Want.Events {
			p.expected[string(e)]++
			switch {
			case e.Domain() == notify.Name:
				p.expected["mail"]++
			case p.binaries:
			case e == event.PaymentConfirmed:
				p.expected["charge"]++
			case e == event.FulfillmentCancelled:
				p.expected["refund"]++
			case e == event.FulfillmentShipped:
				p.expected["book"]++
			}
		}
	}
}

// replaceWriter has inventory's writer frozen for longer than it takes another to
// take over. Who orders meanwhile soon has a change of mind: the successor decides
// about the order when that has been told, and the writer that awakes would decide
// otherwise.
func (p *plan) replaceWriter(random *rand.Rand, at time.Duration) {
	at += upTo(random, leaseTTL/2)
	p.timed = append(p.timed, timedFault{
		fault: fault{harm: freeze, hold: 2*leaseTTL + upTo(random, leaseTTL)}, service: inventory.Name, at: at, writer: true,
	})
	for i, one := range p.purchases {
		if at < one.after && one.after < at+leaseTTL/2 {
			p.purchases[i].cancel = 1 + upTo(random, leaseTTL/2)
		}
	}
}

// draw draws when a fault is to strike at a point: rather early, as what goes wrong
// makes the rest take other ways.
func (p *plan) draw(random *rand.Rand, point string) trigger {
	return trigger{point, 1 + random.IntN(max(p.expected[point]/2, 1))}
}

func drawFault(random *rand.Rand, point string) fault {
	f := fault{harm: kill, which: random.IntN(100)}
	if strings.Contains(point, ".") { // an event
		f.harm = [...]harm{kill, kill, kill, kill, kill, freeze, freeze, freeze, freeze, restart}[random.IntN(10)]
	} else {
		f.harm = [...]harm{kill, kill, freeze}[random.IntN(3)]
		f.moment = [...]moment{asked, done, done, done, answered}[random.IntN(5)]
	}
	// To store an event takes about as long, and to go on when it is stored.
	f.delay, f.hold = upTo(random, 4*time.Millisecond), drawHold(random, f.harm)
	return f
}

func drawHold(random *rand.Rand, h harm) time.Duration {
	if h == freeze {
		// Longer than AckWait and the lease, at times.
		return 200*time.Millisecond + upTo(random, 2*max(ackWait, leaseTTL))
	}
	return upTo(random, 400*time.Millisecond)
}

func upTo(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

// String tells the plan's faults.
func (p plan) String() string {
	var lines []string
	for at, f := range p.faults {
		lines = append(lines, fmt.Sprintf("  %s at %s %d %s, %v", f.harm, at.point, at.n, f.moment, f.hold))
	}
	slices.Sort(lines)
	for _, f := range p.timed {
		lines = append(lines, fmt.Sprintf("  %s %s after %v, %v", f.harm, f.service, f.at, f.hold))
	}
	return strings.Join(lines, "\n")
}
