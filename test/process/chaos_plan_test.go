package process

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/chaosplan"
)

// plan is what a seed determines: the purchases, and what fails where.
type plan struct {
	size
	replicas  map[string]int // of each service; a killed replica gets a successor
	purchases []chaosplan.Purchase
	faults    map[chaosplan.Trigger]fault
	timed     []timedFault
}

// size is how much happens in a plan.
type size struct {
	orders       int
	within       time.Duration // in which they are placed
	faults       int           // that have a trigger
	timed        int           // that have a time
	doomed       int           // orders for which an effect kills each replica that tries it, five times
	writers      int           // of inventory, that are replaced while they are frozen
	mostReplicas int           // of a service, from 2
	binaries     bool          // all six services are the real binaries
}

var (
	moderate = size{orders: 100, within: 3 * time.Second, faults: 10, timed: 5, doomed: 1, writers: 2, mostReplicas: 2}
	heavy    = size{orders: 400, within: 14 * time.Second, faults: 30, timed: 10, doomed: 4, writers: 3, mostReplicas: 3}
)

// fault strikes the replica that has an effect on the world outside, before it learns
// that it had the effect, or the service that sends an event to the stream.
type fault struct {
	harm  harm
	delay time.Duration // from an event to the harm
	hold  time.Duration // until the replica goes on, or its successor starts
	which int           // chooses one of several replicas
	again int           // how often it strikes those that try the same effect for the same order again
}

// timedFault strikes at a time.
type timedFault struct {
	fault
	service string
	writer  bool          // it strikes the replica of inventory that decides
	at      time.Duration // from the start
}

type harm string

const (
	kill      harm = "SIGKILL"
	freeze    harm = "SIGSTOP"
	terminate harm = "SIGTERM"
	restart   harm = "SIGKILL of NATS"
)

func newPlan(seed uint64, s size) plan {
	random := chaosplan.Random(seed)
	p := plan{size: s, replicas: map[string]int{}, faults: map[chaosplan.Trigger]fault{}}
	for _, name := range services {
		p.replicas[name] = 2 + random.IntN(s.mostReplicas-1)
	}
	p.purchases = chaosplan.Purchases(random, s.orders, s.within, 800*time.Millisecond)
	expected := p.expected()
	// Rather early: what fails first makes the rest take other ways.
	draw := func(point string) chaosplan.Trigger {
		return chaosplan.Trigger{Point: point, N: 1 + random.IntN(max(expected[point]/2, 1))}
	}
	points := slices.Sorted(maps.Keys(expected))
	for len(p.faults) < s.faults {
		point := points[random.IntN(len(points))]
		p.faults[draw(point)] = drawFault(random, point)
	}
	// In each plan a replica dies between every effect and the event that records it. For
	// some orders every replica that tries again dies too, until the event is given up.
	effects := slices.DeleteFunc(points, isEvent)
	for _, effect := range effects {
		p.faults[draw(effect)] = fault{harm: kill, hold: drawHold(random, kill)}
	}
	for range s.doomed {
		at := chaosplan.Trigger{Point: effects[random.IntN(len(effects))], N: 1 + random.IntN(4)}
		p.faults[at] = fault{harm: kill, hold: drawHold(random, kill), again: 4}
	}
	for i := range s.writers {
		p.replaceWriter(random, time.Duration(i)*s.within/time.Duration(s.writers))
	}
	// These spare inventory, whose writers have their own faults.
	others := slices.DeleteFunc(slices.Clone(services), func(name string) bool { return name == inventory.Name })
	for range s.timed {
		f := timedFault{service: others[random.IntN(len(others))], at: chaosplan.UpTo(random, s.within)}
		f.harm = [...]harm{kill, kill, freeze, terminate}[random.IntN(4)]
		f.hold, f.which = drawHold(random, f.harm), random.IntN(s.mostReplicas)
		p.timed = append(p.timed, f)
	}
	// Rather late: a replica that is frozen meanwhile has lost its connection when it goes on.
	p.timed = append(p.timed, timedFault{
		fault: fault{harm: restart, hold: chaosplan.UpTo(random, 500*time.Millisecond)},
		at:    s.within*2/3 + chaosplan.UpTo(random, s.within/3),
	})
	return p
}

// isEvent reports whether a point is an event, and not an effect.
func isEvent(point string) bool { return strings.Contains(point, ".") }

// expected is how often each point is passed if nothing fails.
func (p plan) expected() map[string]int {
	n := map[string]int{}
	for _, one := range p.purchases {
		for _, e := range one.Scenario.Want.Events {
			n[string(e)]++
			switch {
			case e.Domain() == notify.Name:
				n["mail"]++
			case p.binaries:
			case e == event.PaymentConfirmed:
				n["charge"]++
			case e == event.FulfillmentCancelled:
				n["refund"]++
			case e == event.FulfillmentShipped:
				n["book"]++
			}
		}
	}
	return n
}

// replaceWriter freezes inventory's writer for longer than another replica needs to
// take over. Customers who order meanwhile cancel soon: the successor decides after
// the cancellation, and the frozen writer would decide otherwise when it goes on.
func (p *plan) replaceWriter(random *rand.Rand, at time.Duration) {
	at += chaosplan.UpTo(random, leaseTTL/2)
	p.timed = append(p.timed, timedFault{
		fault: fault{harm: freeze, hold: 2*leaseTTL + chaosplan.UpTo(random, leaseTTL)}, service: inventory.Name, at: at, writer: true,
	})
	for i, one := range p.purchases {
		if at < one.After && one.After < at+leaseTTL/2 {
			p.purchases[i].Cancel = 1 + chaosplan.UpTo(random, leaseTTL/2)
		}
	}
}

func drawFault(random *rand.Rand, point string) fault {
	harms := []harm{kill, kill, freeze}
	if isEvent(point) {
		harms = []harm{kill, kill, kill, kill, kill, freeze, freeze, freeze, freeze, restart}
	}
	f := fault{harm: harms[random.IntN(len(harms))], which: random.IntN(100)}
	// Storing an event takes about as long.
	f.delay, f.hold = chaosplan.UpTo(random, 4*time.Millisecond), drawHold(random, f.harm)
	return f
}

func drawHold(random *rand.Rand, h harm) time.Duration {
	if h == freeze { // sometimes longer than AckWait and the lease
		return 200*time.Millisecond + chaosplan.UpTo(random, 2*max(ackWait, leaseTTL))
	}
	return chaosplan.UpTo(random, 400*time.Millisecond)
}

// String lists the plan's faults.
func (p plan) String() string {
	var lines []string
	for at, f := range p.faults {
		lines = append(lines, fmt.Sprintf("  %s at %s %d, %v", f.harm, at.Point, at.N, f.hold))
	}
	slices.Sort(lines)
	for _, f := range p.timed {
		lines = append(lines, fmt.Sprintf("  %s %s after %v, %v", f.harm, f.service, f.at, f.hold))
	}
	return strings.Join(lines, "\n")
}
