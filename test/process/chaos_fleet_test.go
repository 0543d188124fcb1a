package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// replica is one process of a service.
type replica struct {
	*process
	service string
	number  int // unique among all of the run

	// Guarded by chaos.mu.
	gone   bool // killed, or told to end
	frozen bool
}

// outage is a time in which a replica, or NATS, could not do what it should.
type outage struct {
	number      int // the replica's; ofNATS
	frozen      bool
	from, until time.Time
}

const ofNATS = 0

// launch starts a replica. Only the test's own goroutine does, see later.
func (c *chaos) launch(service string) {
	c.t.Helper()
	c.mu.Lock() // until it is in the fleet: it may call at once
	defer c.mu.Unlock()
	r := &replica{service: service, number: len(c.fleet) + 1}
	env := []string{"ORDER_DEADLINE=" + orderDeadline.String()}
	if service == notify.Name {
		env = append(env, "SMTP_URL=smtp://"+c.listenForMail(r))
	}
	if outside := service == payments.Name || service == fulfillment.Name; outside && !c.plan.binaries {
		r.process = c.startOutside(r)
	} else {
		r.process = c.nats.service(c.t, service, env...)
	}
	c.fleet = append(c.fleet, r)
}

// alive returns the replicas of these services that are, of all if none is named.
// Frozen ones are too.
func (c *chaos) alive(of ...string) []*replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.fleet), func(r *replica) bool {
		return r.gone || len(of) > 0 && !slices.Contains(of, r.service)
	})
}

// writer returns the replica of inventory whose lease message was seen last, nil
// if it is gone.
func (c *chaos) writer() *replica {
	c.mu.Lock()
	holder := c.holder
	c.mu.Unlock()
	for _, r := range c.alive(inventory.Name) {
		if holder != "" && strings.Contains(r.stderr.String(), "instance="+holder+" ") {
			return r
		}
	}
	return nil
}

var address = regexp.MustCompile(`msg=running.* address=(\S+)`)

// shop returns the URL of one replica of orders after the other, "" if there is
// none now. A frozen one has its turn too: customers can't know.
func (c *chaos) shop() string {
	var urls []string
	for _, r := range c.alive(orders.Name) {
		if found := address.FindStringSubmatch(r.stderr.String()); found != nil {
			urls = append(urls, "http://"+found[1])
		}
	}
	if len(urls) == 0 {
		return ""
	}
	return urls[int(c.turns.Add(1))%len(urls)]
}

// later has the test's own goroutine do something in a while: no other may start
// processes, since that can end the test.
func (c *chaos) later(d time.Duration, do func()) {
	c.pending.Add(1)
	time.AfterFunc(d, func() {
		select {
		case c.tasks <- do:
		case <-c.t.Context().Done():
		}
	})
}

// conduct does what becomes due until the customers have left and nothing more is.
func (c *chaos) conduct(left <-chan struct{}) {
	for left != nil || c.pending.Load() > 0 {
		select {
		case do := <-c.tasks:
			do()
			c.pending.Add(-1)
		case <-left:
			left = nil
		}
	}
}

// kill ends a replica at once, and has its successor started after hold.
func (c *chaos) kill(r *replica, hold time.Duration) bool { return c.end(r, syscall.SIGKILL, hold) }

// terminate has a replica finish what it has in hand.
func (c *chaos) terminate(r *replica, hold time.Duration) bool {
	return c.end(r, syscall.SIGTERM, hold)
}

func (c *chaos) end(r *replica, s os.Signal, hold time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || r.gone || r.frozen && s == syscall.SIGTERM {
		return false
	}
	r.gone = true
	now := time.Now()
	if s == syscall.SIGKILL {
		c.outages = append(c.outages, outage{r.number, false, now, now})
	}
	if err := r.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("%s: %s: %v", s, r.service, err)
	}
	c.later(hold, func() { c.launch(r.service) })
	return true
}

// freeze stops a replica for a while.
func (c *chaos) freeze(r *replica, hold time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || r.gone || r.frozen {
		return false
	}
	r.frozen = true
	from := time.Now()
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Errorf("stop %s: %v", r.service, err)
	}
	c.later(hold, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.frozen = false
		c.outages = append(c.outages, outage{r.number, true, from, time.Now()})
		if r.gone { // killed meanwhile
			return
		}
		if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			c.t.Errorf("continue %s: %v", r.service, err)
		}
	})
	return true
}

// killNATS ends the server at once; it comes back on the same store and port.
func (c *chaos) killNATS(hold time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || c.down {
		return false
	}
	c.down = true
	from := time.Now()
	if err := c.nats.cmd.Process.Kill(); err != nil {
		c.t.Errorf("kill NATS: %v", err)
	}
	c.later(hold, func() {
		<-c.nats.exited
		again := startNATSOn(c.t, c.nats.store, c.port)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nats = again
		c.down = false
		c.outages = append(c.outages, outage{ofNATS, false, from, time.Now().Add(reconnected)})
	})
	return true
}

// reconnected is how long after a start of NATS all clients have found it again.
const reconnected = time.Second

// ownPort returns a port that is free, and that no client's connection gets: it
// must be free again when NATS comes back.
func ownPort() string {
	for {
		port := 15_000 + rand.IntN(15_000) // below Linux' ephemeral ports
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = l.Close()
			return strconv.Itoa(port)
		}
	}
}

// checkFleet wants every service in full strength, and nobody who ended without
// being told to.
func (c *chaos) checkFleet() {
	c.t.Helper()
	for _, name := range services {
		all := c.alive(name)
		if len(all) != c.plan.replicas[name] {
			c.t.Errorf("%d replicas of %s, want %d", len(all), name, c.plan.replicas[name])
		}
		for _, r := range all {
			r.ready(c.t)
		}
	}
	for _, r := range c.fleet {
		if r.gone { // at the latest when it takes too long to finish what it has in hand
			systemtest.Until(c.t, r.service+" has ended", func() bool { return hasEnded(r) })
		} else if hasEnded(r) {
			c.t.Errorf("%s ended by itself", r.service)
		}
	}
}

func hasEnded(r *replica) bool {
	select {
	case <-r.exited:
		return true
	default:
		return false
	}
}
