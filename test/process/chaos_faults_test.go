package process

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/inventory"
)

// hits counts faults that certainly struck where it hurts. A run without them has
// shown nothing.
type hits struct {
	effects  int // killed when it had had an effect, and was not told yet
	handling int // all replicas killed when one published, with messages in hand
	stale    int // decisions that a writer of inventory sent when another had taken over
	restarts int // of NATS
	redriven int // dead letters
}

// pass counts a point as passed, and returns the fault that the plan has there.
func (c *chaos) pass(point string) (fault, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed[point]++
	f, ok := c.plan.faults[trigger{point, c.passed[point]}]
	return f, ok
}

// tried returns the fault that strikes who tries an effect for an order: by its
// number, or once more.
func (c *chaos) tried(effect, order string) (fault, bool) {
	f, ok := c.pass(effect)
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.doomed[effect+order] = f
		return f, true
	}
	f = c.doomed[effect+order]
	f.again--
	c.doomed[effect+order] = f
	return f, f.again >= 0
}

// effect has an effect on the world outside happen, as a replica asked for, and
// what the plan has for it. It returns false if the caller is not to be told.
func (c *chaos) effect(r *replica, name, order string, do func()) bool {
	f, ok := c.tried(name, order)
	if !ok {
		do()
		return true
	}
	point := fmt.Sprintf("%s of %s %d", f.moment, name, r.number)
	if f.moment == asked {
		if c.strike(f, r, point) && f.harm == kill {
			return false
		}
		do()
		return true
	}
	do()
	if f.moment == answered {
		time.AfterFunc(f.delay, func() { c.strike(f, r, point) })
		return true
	}
	if !c.strike(f, r, point) {
		return true
	}
	if f.harm == kill {
		c.mu.Lock()
		c.hits.effects++
		c.mu.Unlock()
		return false
	}
	return true // it finds the answer when it goes on
}

// strike lets a fault happen to a replica, if it is there for it.
func (c *chaos) strike(f fault, r *replica, point string) bool {
	var struck bool
	switch f.harm {
	case kill:
		struck = c.kill(r, f.hold)
	case terminate:
		struck = c.terminate(r, f.hold)
	case freeze:
		struck = c.freeze(r, f.hold)
	case restart:
		if struck = c.killNATS(f.hold); struck {
			c.mu.Lock()
			c.hits.restarts++
			c.mu.Unlock()
		}
	}
	if struck {
		c.note("%s %s, %v", f.harm, point, f.hold)
	}
	return struck
}

// published is called for each message that a service sends to the stream: at
// once, before it is stored.
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
	c.countStale(m)
	if f, ok := c.pass(string(t)); ok {
		time.AfterFunc(f.delay, func() { c.strikePublisher(f, t.Domain(), "at "+m.Subject) })
	}
}

// strikePublisher lets a fault happen to a service because of what it published.
func (c *chaos) strikePublisher(f fault, service, point string) {
	all := c.alive(service)
	writer := c.writer()
	switch {
	case f.harm == restart:
		c.strike(f, nil, point)
	case len(all) == 0:
	case writer != nil && service == inventory.Name:
		c.strike(f, writer, point)
	case f.harm == kill: // who of them has sent it is not known
		struck := slices.DeleteFunc(all, func(r *replica) bool {
			return !c.strike(f, r, fmt.Sprint(point, " ", r.service, " ", r.number))
		})
		if len(struck) > 0 {
			c.later(0, func() { c.countInHand(service, struck) })
		}
	default:
		c.strike(f, all[f.which%len(all)], point)
	}
}

// countStale notices a decision of a writer of inventory after one of its
// successor's: by the fencing token that it carries.
func (c *chaos) countStale(m *nats.Msg) {
	if m.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader) != event.StockLease.Subject(event.LeaseKey) {
		return
	}
	token, err := strconv.ParseUint(m.Header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if token < c.token {
		c.hits.stale++
	}
	c.token = max(c.token, token)
}

// countInHand looks what the dead had in hand: who is dead acknowledges no more.
func (c *chaos) countInHand(service string, dead []*replica) {
	i := slices.IndexFunc(app.Durables(), func(d stream.Durable) bool { return d.Name == service })
	if i < 0 {
		return
	}
	for _, r := range dead {
		<-r.exited
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
	defer cancel()
	consumer, err := c.js.Consumer(ctx, app.Durables()[i].Stream, service)
	if err != nil {
		return // NATS is away: who knows
	}
	// A successor may have started already, but could not have got far.
	if n := consumer.CachedInfo().NumAckPending; n > 0 {
		c.mu.Lock()
		c.hits.handling++
		c.mu.Unlock()
		c.note("%s had %d messages in hand", service, n)
	}
}

// watch sees what the services publish: on a plain connection that is at once, and
// also what a guard then refuses.
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

// begin sets the timed faults going.
func (c *chaos) begin() {
	for _, f := range c.plan.timed {
		c.later(f.at, func() { c.strikeInTime(f) })
	}
}

func (c *chaos) strikeInTime(f timedFault) {
	r := c.writer()
	if all := c.alive(f.service); !f.writer && len(all) > 0 {
		r = all[f.which%len(all)]
	}
	switch {
	case f.harm == restart:
		c.strike(f.fault, nil, "in time")
	case r != nil:
		c.strike(f.fault, r, fmt.Sprintf("%s %d in time", r.service, r.number))
	}
}

// becalm waits for the end of everything that is under way; from then on nothing
// goes wrong any more.
func (c *chaos) becalm() {
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	c.conduct(nil)
}

// note keeps a line for the log of a run that fails.
func (c *chaos) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, fmt.Sprintf("%7.3fs ", time.Since(c.began).Seconds())+fmt.Sprintf(format, args...))
}

func (h hits) String() string {
	return strings.Join([]string{
		fmt.Sprintf("%d killed between an effect and what is said of it", h.effects),
		fmt.Sprintf("%d when one published, with messages in hand", h.handling),
		fmt.Sprintf("%d decisions of writers that were replaced", h.stale),
		fmt.Sprintf("%d restarts of NATS", h.restarts),
		fmt.Sprintf("%d dead letters sent again", h.redriven),
	}, ", ")
}
