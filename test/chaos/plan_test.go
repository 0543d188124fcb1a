package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
)

// plan is what a seed stands for: who orders what and when, and what goes wrong
// where. The seed decides all of it; how the goroutines interleave it cannot.
type plan struct {
	seed      uint64
	purchases []purchase
	faults    map[trigger]fault
	lagging   bool // some reads are answered by a replica that lags behind
}

// purchase is one order to be placed.
type purchase struct {
	scenario demo.Scenario
	after    time.Duration // from the start
	cancel   time.Duration // after it was taken; 0: never
}

// trigger is the n-th time that any replica passes a point: an effect outside
// ("charge"), an event that was stored ("payments.confirmed"), or one that is on
// its way to the server ("send inventory").
type trigger struct {
	point string
	n     int
}

// fault is what happens then.
type fault struct {
	kind   kind
	target string        // the service whose replica it hits; "": the replica that passed
	turn   int           // which of its replicas
	hold   time.Duration // how long a pause lasts, or until a successor of the dead starts
}

type kind string

const (
	kill    kind = "kill"         // the replica is gone; what it has sent and not flushed is lost
	cut     kind = "cut"          // its connection breaks; it connects again
	stall   kind = "pause"        // nothing gets through to it or from it for a while
	restart kind = "restart NATS" // the server stops, and starts on the same store
	stale   kind = "stale writer" // inventory is paused with a reservation on its way, until long after it
	// was replaced; meanwhile the customer cancels
)

// points are where faults strike, with how often a plan of average size passes
// them at least.
var points = []struct {
	name  string
	often int
}{
	{"charge", 20}, {"refund", 8}, {"book", 12}, {"mail", 30},
	{string(event.OrderCreated), 25}, {string(event.OrderCancelled), 6},
	{string(event.PaymentConfirmed), 15}, {string(event.PaymentDeclined), 8}, {string(event.PaymentRefunded), 4},
	{string(event.InventoryReserved), 20}, {string(event.InventoryRejected), 4}, {string(event.InventoryReleased), 6},
	{string(event.FulfillmentShipped), 8}, {string(event.FulfillmentCancelled), 10},
	{string(event.NotifyReceived), 25}, {string(event.NotifyShipped), 8}, {string(event.NotifyCancelled), 10},
	{"send payments", 25}, {"send inventory", 25}, {"send inventory", 25}, {"send fulfillment", 20}, {"send notify", 25},
}

// size is how much happens in a plan.
type size struct {
	orders, faults int
	within         time.Duration // in which the orders are placed
}

var usual = size{orders: 40, faults: 16, within: 2500 * time.Millisecond}

func newPlan(seed uint64, s size) plan {
	random := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed, faults: map[trigger]fault{}, lagging: seed%2 == 1}
	p.faults[trigger{"send inventory", 1 + random.IntN(s.orders/2)}] = fault{kind: stale, hold: 3 * leaseTTL}
	scenarios := demo.Scenarios()
	for range s.orders {
		sc := scenarios[0]
		if random.IntN(3) > 0 {
			sc = scenarios[random.IntN(len(scenarios))]
		}
		if random.IntN(8) == 0 {
			sc.SKUs = append([]string{"LAST-ONE"}, sc.SKUs...) // several want it
		}
		one := purchase{scenario: sc, after: upTo(random, s.within)}
		if sc.Cancel || random.IntN(5) == 0 {
			one.cancel = 1 + upTo(random, 600*time.Millisecond)
		}
		p.purchases = append(p.purchases, one)
	}
	for len(p.faults) < s.faults {
		at := points[random.IntN(len(points))]
		f := fault{kind: [...]kind{kill, kill, kill, cut, stall, stall, restart}[random.IntN(7)]}
		f.hold = upTo(random, 400*time.Millisecond)
		if f.kind == stall {
			f.hold = 200*time.Millisecond + upTo(random, 2500*time.Millisecond) // longer than a lease, at times
		}
		f.turn = random.IntN(2)
		switch random.IntN(8) {
		case 0:
			f.target = analytics.Name
		case 1:
			f.target = inventory.Name
		}
		p.faults[trigger{at.name, 1 + random.IntN(at.often)}] = f
	}
	return p
}

func upTo(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

// mishap is what becomes of one delivery.
type mishap string

const (
	nothing mishap = ""
	lost    mishap = "lost"     // it never arrives, and comes again after AckWait
	deaf    mishap = "ack lost" // it is handled, and comes again after AckWait
	twice   mishap = "twice"    // it is handled, and handled again
	late    mishap = "late"     // it arrives after a while, when it may be handled elsewhere
)

// mishap draws what becomes of the n-th delivery of a durable.
func (p plan) mishap(durable string, n int) (mishap, time.Duration) {
	seed := p.seed
	for _, b := range []byte(fmt.Sprint(durable, n)) {
		seed = seed*31 + uint64(b)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	late2 := upTo(random, 2*ackWait)
	switch draw := random.IntN(100); {
	case draw < 2:
		return lost, 0
	case draw < 7:
		return deaf, 0
	case draw < 11:
		return twice, 0
	case draw < 15:
		return late, late2
	}
	return nothing, 0
}
