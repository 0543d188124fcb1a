package process

import (
	"context"
	"fmt"
	"reflect"
	"syscall"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// operate sends dead letters again as soon as they are there, until it is calm.
func (c *chaos) operate(calm <-chan struct{}) {
	for {
		select {
		case <-calm:
			return
		case <-time.After(250 * time.Millisecond):
			_, _ = c.redrive() // NATS may be away
		}
	}
}

// redrive sends all dead letters again, and tells how many there were.
func (c *chaos) redrive() (int, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
	defer cancel()
	letters, err := c.operator.DeadLetters(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range letters {
		if err := c.operator.Redrive(ctx, l.ID); err != nil {
			return 0, err
		}
		c.note("sent again, because %s: %s, %s", l.Reason, l.ID, l.Subject)
		c.mu.Lock()
		c.hits.redriven++
		c.mu.Unlock()
	}
	return len(letters), nil
}

// settle waits until nothing is left to do: every order is closed, every consumer
// is done, and there are no dead letters.
func (c *chaos) settle() systemtest.Ledger {
	c.t.Helper()
	for until := time.Now().Add(systemtest.Patience); ; c.wait(50 * time.Millisecond) {
		err := c.settled()
		if err == nil {
			break
		}
		if time.Now().After(until) {
			c.t.Errorf("waited %v in vain for the end: %v", systemtest.Patience, err) // the audit tells more
			break
		}
	}
	return systemtest.Read(c.t, c.js)
}

// settled says what is left to do.
func (c *chaos) settled() error {
	n, err := c.redrive()
	if err == nil && n > 0 {
		err = fmt.Errorf("%d dead letters", n)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for _, d := range app.Durables() {
		consumer, err := c.js.Consumer(ctx, d.Stream, d.Name)
		if err != nil {
			return err
		}
		if info := consumer.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return fmt.Errorf("%s has %d messages to come and %d in hand", d.Name, info.NumPending, info.NumAckPending)
		}
	}
	for id, events := range systemtest.Read(c.t, c.js).Orders {
		if err := systemtest.Closed(events); err != nil {
			return fmt.Errorf("order %s %w", id, err)
		}
	}
	return nil
}

// audit checks what must hold, from the stream and the world outside.
func (c *chaos) audit(l systemtest.Ledger) {
	c.t.Helper()
	c.auditAnalytics(l)
	c.look(l)
	// Who was frozen may be at work still, in vain. It finishes that.
	for _, r := range c.alive() {
		r.signal(c.t, syscall.SIGTERM)
	}
	for _, r := range c.alive() {
		if code := r.wait(c.t, 10*time.Second); code != 0 {
			c.t.Errorf("%s: exit code %d on SIGTERM", r.service, code)
		}
	}
	before := eventsOf(l)
	if l = systemtest.Read(c.t, c.js); eventsOf(l) != before {
		c.t.Errorf("%d events came when nothing was left to do", eventsOf(l)-before)
	}
	if c.plan.binaries {
		l.Audit(c.t, nil)
	} else {
		l.Audit(c.t, c.world)
	}
	c.auditMails(l)

	if got, want := len(l.Orders), len(c.plan.purchases); got != want {
		c.t.Errorf("%d orders are in the stream, want %d: one of each key", got, want)
	}
	for i, id := range c.taken {
		if len(l.Orders[id]) == 0 {
			c.t.Errorf("%s: order %s was taken, and is not in the stream", key(i), id)
		}
	}
	shipped := 0
	for id, events := range l.Orders {
		if _, ok := event.Find(events, event.OrderCancelled); c.cancelled[id] && !ok {
			c.t.Errorf("the cancellation of order %s was taken, and is not in the stream", id)
		}
		if _, ok := event.Find(events, event.FulfillmentShipped); ok {
			shipped++
		}
	}
	c.t.Logf("%d orders, %d of them shipped; %d processes; %s", len(l.Orders), shipped, len(c.fleet), c.hits)
}

// eventsOf counts the events of all orders.
func eventsOf(l systemtest.Ledger) (n int) {
	for _, events := range l.Orders {
		n += len(events)
	}
	return n
}

// auditAnalytics wants every replica of analytics to count what a recount does.
func (c *chaos) auditAnalytics(l systemtest.Ledger) {
	c.t.Helper()
	want := l.Recount()
	want.AsOf = 0
	for _, events := range l.Orders {
		for _, e := range events {
			want.AsOf = max(want.AsOf, e.Sequence)
		}
	}
	for _, r := range c.alive(analytics.Name) {
		var got systemtest.Analytics
		systemtest.Until(c.t, "analytics has counted everything", func() bool {
			got = systemtest.GetAnalytics(c.t, r.url(c.t))
			return got.AsOf >= want.AsOf
		})
		if !reflect.DeepEqual(got, want) {
			c.t.Errorf("analytics counts %+v, a recount %+v", got, want)
		}
	}
}
