package process

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/inventory"
)

// effect has an effect on the world outside, for a replica, and then the fault that the
// plan has for it. It returns false if the replica died and must not learn of the effect.
func (c *chaos) effect(r *replica, name, order string, do func()) bool {
	do()
	f, ok := c.points.Pass(name)
	c.mu.Lock()
	if !ok { // perhaps the effect was already doomed for this order
		f = c.doomed[name+order]
		f.again--
		ok = f.again >= 0
	}
	c.doomed[name+order] = f
	c.mu.Unlock()
	if !ok || !c.strike(f, r, fmt.Sprintf("after %s of %s %d", name, r.service, r.number)) || f.harm != kill {
		return true
	}
	c.effects.Add(1)
	return false
}

// strike makes a fault happen to a replica, and reports whether the replica was there
// for it.
func (c *chaos) strike(f fault, r *replica, point string) (struck bool) {
	switch f.harm {
	case kill, terminate:
		struck = c.end(r, f.harm, f.hold)
	case freeze:
		struck = c.freeze(r, f.hold)
	case restart:
		struck = c.killNATS(f.hold)
	}
	if struck {
		c.note("%s %s, %v", f.harm, point, f.hold)
	}
	return struck
}

// watch follows what the services publish. A plain subscription receives a message at
// once, also one that a guard then refuses.
func (c *chaos) watch() {
	c.t.Helper()
	for _, filter := range []string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*", "stock.*.*"} {
		if _, err := c.js.Conn().Subscribe(filter, c.published); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := c.js.Conn().Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// published is called for each message that a service sends to the stream, before it
// is stored.
func (c *chaos) published(m *nats.Msg) {
	t, _, err := event.ParseSubject(m.Subject)
	if err != nil {
		return
	}
	if t == event.StockLease {
		var lease event.Lease
		if json.Unmarshal(m.Data, &lease) == nil {
			c.mu.Lock()
			c.holder = lease.Holder
			c.mu.Unlock()
		}
	}
	if f, ok := c.points.Pass(string(t)); ok {
		time.AfterFunc(f.delay, func() { c.strikePublisher(f, t.Domain(), "at "+m.Subject) })
	}
}

// strikePublisher strikes a service because of an event that it published. Which of its
// replicas did is not known, so a kill strikes them all.
func (c *chaos) strikePublisher(f fault, service, point string) {
	all := c.alive(service)
	if writer := c.writer(); writer != nil && service == inventory.Name {
		all = []*replica{writer}
	}
	switch {
	case f.harm == restart:
		c.strike(f, nil, point)
	case f.harm == kill:
		for _, r := range all {
			c.strike(f, r, fmt.Sprint(point, " ", r.service, " ", r.number))
		}
	case len(all) > 0:
		c.strike(f, all[f.which%len(all)], point)
	}
}

func (c *chaos) strikeInTime(f timedFault) {
	r := c.writer()
	if all := c.alive(f.service); !f.writer && len(all) > 0 {
		r = all[f.which%len(all)]
	}
	switch {
	case f.harm == restart:
		c.strike(f.fault, nil, "at its time")
	case r != nil:
		c.strike(f.fault, r, fmt.Sprintf("%s %d at its time", r.service, r.number))
	}
}
