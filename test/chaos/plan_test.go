package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/test/chaosplan"
)

// plan is what a seed determines: the purchases, and what fails where.
type plan struct {
	seed      uint64
	purchases []chaosplan.Purchase
	faults    map[chaosplan.Trigger]fault
	lagging   bool // a replica of the stream that lags behind answers some reads
}

// fault is what happens when a replica passes a point.
type fault struct {
	kind   kind
	target string        // the service that it hits; "": the replica that passed
	turn   int           // chooses one of the target's replicas
	hold   time.Duration // how long a pause lasts, or until the successor of a killed replica starts
}

type kind string

const (
	kill    kind = "kill"         // the replica is gone; what it has sent and not flushed is lost
	cut     kind = "cut"          // its connection breaks; it reconnects
	stall   kind = "pause"        // it neither sends nor receives for a while
	restart kind = "restart NATS" // the server stops, and starts on the same store
	full    kind = "full stream"  // the stream accepts no message for a while
	stale   kind = "stale writer" // inventory is paused with a reservation on its way, until long after another
	// replica took over; meanwhile the customer cancels
)

// points are where faults strike. A plan passes each of them at least so often.
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
	{snapshotPoint, 12}, {snapshotPoint, 12},
}

// snapshotPoint is passed when inventory sends a snapshot of the stock.
const snapshotPoint = "send snapshot"

const (
	orderCount = 40
	faultCount = 16
)

func newPlan(seed uint64) plan {
	random := chaosplan.Random(seed)
	p := plan{seed: seed, faults: map[chaosplan.Trigger]fault{}, lagging: seed%2 == 1}
	p.faults[chaosplan.Trigger{Point: "send inventory", N: 1 + random.IntN(orderCount/2)}] = fault{kind: stale, hold: 3 * leaseTTL}
	for range 2 { // the writer dies while a snapshot is on its way
		p.faults[chaosplan.Trigger{Point: snapshotPoint, N: 1 + random.IntN(10)}] = fault{kind: kill, hold: chaosplan.UpTo(random, 400*time.Millisecond)}
	}
	p.faults[chaosplan.Trigger{Point: string(event.OrderCreated), N: 5 + random.IntN(20)}] = fault{kind: full, hold: 300 * time.Millisecond}
	p.purchases = chaosplan.Purchases(random, orderCount, 2500*time.Millisecond, 600*time.Millisecond)
	for len(p.faults) < faultCount {
		at := points[random.IntN(len(points))]
		f := fault{kind: [...]kind{kill, kill, kill, cut, stall, stall, restart}[random.IntN(7)]}
		f.hold = chaosplan.UpTo(random, 400*time.Millisecond)
		if f.kind == stall { // sometimes longer than a lease
			f.hold = 200*time.Millisecond + chaosplan.UpTo(random, 2500*time.Millisecond)
		}
		f.turn = random.IntN(2)
		switch random.IntN(8) {
		case 0:
			f.target = analytics.Name
		case 1:
			f.target = inventory.Name
		}
		p.faults[chaosplan.Trigger{Point: at.name, N: 1 + random.IntN(at.often)}] = f
	}
	return p
}

// mishap is what happens to one delivery.
type mishap string

const (
	nothing mishap = ""
	lost    mishap = "lost"     // it never arrives, and comes again after AckWait
	deaf    mishap = "ack lost" // it is handled, and comes again after AckWait
	twice   mishap = "twice"    // it is handled, and handled again
	late    mishap = "late"     // it arrives later, when another replica may handle it
)

// mishap draws what happens to the n-th delivery of a durable.
func (p plan) mishap(durable string, n int) (mishap, time.Duration) {
	seed := p.seed
	for _, b := range []byte(fmt.Sprint(durable, n)) {
		seed = seed*31 + uint64(b)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	wait := chaosplan.UpTo(random, 2*ackWait)
	switch draw := random.IntN(100); {
	case draw < 2:
		return lost, 0
	case draw < 7:
		return deaf, 0
	case draw < 11:
		return twice, 0
	case draw < 15:
		return late, wait
	}
	return nothing, 0
}
