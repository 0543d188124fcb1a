package process

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.org/ordertrail/internal/demo"
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
	number  int // unique in the run

	// Guarded by chaos.mu.
	gone   bool // killed or terminated
	frozen bool
}

// outage is a time in which a replica, or NATS, could not work.
type outage struct {
	number      int // the replica's, or ofNATS
	frozen      bool
	from, until time.Time
}

const ofNATS = 0

// launch starts a replica.
func (c *chaos) launch(service string) {
	c.t.Helper()
	c.mu.Lock() // until the replica is in the fleet: it may call the world at once
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

// alive returns the living replicas of these services, or of all. Frozen ones live.
func (c *chaos) alive(of ...string) []*replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.fleet), func(r *replica) bool {
		return r.gone || len(of) > 0 && !slices.Contains(of, r.service)
	})
}

// writer returns the replica of inventory that published the last lease message, nil if
// it is gone.
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

// shop returns the replicas of orders in turn. Customers cannot know that one is frozen.
func (c *chaos) shop() (demo.Shop, error) {
	var urls []string
	for _, r := range c.alive(orders.Name) {
		if found := address.FindStringSubmatch(r.stderr.String()); found != nil {
			urls = append(urls, "http://"+found[1])
		}
	}
	if len(urls) == 0 {
		return demo.Shop{}, errors.New("no replica of orders runs")
	}
	return demo.Shop{URL: urls[int(c.turns.Add(1))%len(urls)], Client: customersClient}, nil
}

// after does something later. becalm waits for it.
func (c *chaos) after(d time.Duration, do func()) {
	c.later.Go(func() { <-time.After(d); do() })
}

// becalm ends the faults, and waits for everything that they have scheduled.
func (c *chaos) becalm() {
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	c.later.Wait()
}

// end kills or terminates a replica, and starts its successor after hold.
func (c *chaos) end(r *replica, how harm, hold time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || r.gone || r.frozen && how == terminate {
		return false
	}
	r.gone = true
	s := syscall.SIGTERM
	if how == kill {
		s = syscall.SIGKILL
		now := time.Now()
		c.outages = append(c.outages, outage{r.number, false, now, now})
	}
	if err := r.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("%s: %s: %v", s, r.service, err)
	}
	c.after(hold, func() { c.launch(r.service) })
	return true
}

// freeze stops a replica, and continues it after hold.
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
	c.after(hold, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.frozen = false
		c.outages = append(c.outages, outage{r.number, true, from, time.Now()})
		if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil && !r.gone {
			c.t.Errorf("continue %s: %v", r.service, err)
		}
	})
	return true
}

// killNATS kills the server, and starts it on the same store and port after hold.
func (c *chaos) killNATS(hold time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || c.down {
		return false
	}
	c.down = true
	c.restarts.Add(1)
	from, killed := time.Now(), c.nats
	if err := killed.cmd.Process.Kill(); err != nil {
		c.t.Errorf("kill NATS: %v", err)
	}
	c.after(hold, func() {
		<-killed.exited
		again := startNATSOn(c.t, killed.store, killed.port())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nats = again
		c.down = false
		c.outages = append(c.outages, outage{ofNATS, false, from, time.Now().Add(reconnected)})
	})
	return true
}

// reconnected is how long all clients need to reconnect after a start of NATS.
const reconnected = time.Second

// checkFleet checks that every service has its replicas again, and that no process
// ended that was not killed or terminated.
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
		if r.gone {
			systemtest.Until(c.t, r.service+" has ended", r.ended)
		} else if r.ended() {
			c.t.Errorf("%s ended by itself", r.service)
		}
	}
}
