package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// buy places an order, for as long as it takes, and may change its mind.
func (c *chaos) buy(ctx context.Context, i int, p purchase) {
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	pause(p.after)
	key := fmt.Sprintf("purchase-%d", i)
	var id string
	for {
		order, err := c.shop.PlaceWithKey(ctx, p.scenario, key)
		if err == nil {
			id = order.ID
			break
		}
		if !again(err) || ctx.Err() != nil {
			c.t.Errorf("purchase %d: %v", i, err)
			return
		}
		pause(20 * time.Millisecond)
	}
	c.mu.Lock()
	c.taken[id] = true
	c.mu.Unlock()
	if p.cancel == 0 {
		return
	}
	pause(p.cancel)
	c.cancel(id)
}

// cancel asks for an order's end, for as long as it takes.
func (c *chaos) cancel(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	for {
		_, err := c.shop.Cancel(ctx, id)
		var status *demo.StatusError
		if err == nil || errors.As(err, &status) && status.Code == http.StatusConflict {
			return // asked for, or over
		}
		if !again(err) || ctx.Err() != nil {
			c.t.Errorf("cancel order %s: %v", id, err)
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// again tells whether a customer should ask again.
func again(err error) bool {
	var status *demo.StatusError
	if !errors.As(err, &status) {
		return true // no answer
	}
	// 404: the replica that was asked lags behind the one that took the order.
	return status.Code == http.StatusServiceUnavailable || status.Code == http.StatusTooManyRequests || status.Code == http.StatusNotFound
}

// heal ends all trouble, and waits until nothing is left to do. An operator sends
// what became a dead letter again.
func (c *chaos) heal() {
	c.t.Helper()
	c.becalm()
	c.later.Wait()
	client, err := c.sys.Client()
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	if !until(func() bool {
		letters, err := client.DeadLetters(ctx)
		if err != nil {
			return false
		}
		for _, l := range letters {
			if err := client.Redrive(ctx, l.ID); err != nil {
				return false
			}
		}
		if len(letters) > 0 || !c.idle(ctx) {
			return false
		}
		ledger := systemtest.Read(c.t, c.sys.JetStream())
		for _, events := range ledger.Orders {
			if systemtest.Closed(events) != nil {
				return false
			}
		}
		return len(ledger.Orders) >= len(c.plan.purchases) && c.idle(ctx)
	}) {
		c.t.Fatalf("after %v something is still left to do", *patience)
	}
}

// idle tells whether no consumer has anything left.
func (c *chaos) idle(ctx context.Context) bool {
	for _, d := range app.Durables() {
		consumer, err := c.sys.JetStream().Consumer(ctx, d.Stream, d.Name)
		if err != nil || consumer.CachedInfo().NumPending > 0 || consumer.CachedInfo().NumAckPending > 0 {
			return false
		}
	}
	return true
}

// audit checks what must hold, from the stream and the world outside.
func (c *chaos) audit() {
	c.t.Helper()
	ledger := systemtest.Settle(c.t, c.sys.JetStream(), len(c.plan.purchases))
	ledger.Audit(c.t, c.world)
	if got, want := len(ledger.Orders), len(c.plan.purchases); got != want {
		c.t.Errorf("%d orders in the stream, %d were placed", got, want)
	}
	c.mu.Lock()
	for id := range c.taken {
		if len(ledger.Orders[id]) == 0 {
			c.t.Errorf("order %s was taken, and is not in the stream", id)
		}
	}
	if len(c.struck) < len(c.plan.faults)/4 {
		c.t.Errorf("%d of %d faults struck: this shows little", len(c.struck), len(c.plan.faults))
	}
	c.auditMails(ledger)
	c.t.Logf("%d of %d faults struck", len(c.struck), len(c.plan.faults))
	c.mu.Unlock()

	// Every replica of analytics tells the same.
	want := ledger.Recount()
	for turn := range replicas[analytics.Name] {
		url := systemtest.Serve(c.t, c.alive(analytics.Name, turn).running.HTTP())
		var got systemtest.Analytics
		systemtest.Until(c.t, "analytics has counted everything", func() bool {
			got = systemtest.GetAnalytics(c.t, url)
			return got.AsOf >= lastCounted(ledger)
		})
		got.AsOf = want.AsOf
		if !reflect.DeepEqual(got, want) {
			c.t.Errorf("analytics counts %+v, a recount %+v", got, want)
		}
	}
}

// lastCounted is the sequence of the last event that analytics reads.
func lastCounted(l systemtest.Ledger) (last uint64) {
	for _, events := range l.Orders {
		for _, e := range events {
			last = max(last, e.Sequence)
		}
	}
	return last
}

// auditMails wants each mail once at least, and no more often than its event was
// handled before the stream said that it was sent: only a handler that was cut
// short in between may leave a second one behind.
func (c *chaos) auditMails(l systemtest.Ledger) {
	c.t.Helper()
	facts := map[string]bool{}
	for id, events := range l.Orders {
		for _, fact := range letters {
			if _, ok := event.Find(events, fact); !ok {
				continue
			}
			mail := string(fact) + "." + id + "@ordertrail.example"
			facts[mail] = true
			if sent, most := c.mails.sent[mail], c.mails.begun[mail]; sent < 1 || sent > most {
				c.t.Errorf("mail %s was sent %d times, want 1 to %d", mail, sent, most)
			}
		}
	}
	for mail := range c.mails.sent {
		if !facts[mail] {
			c.t.Errorf("mail %s was sent, and the stream does not know", mail)
		}
	}
}

// liveAgain sends every event to every durable that consumes it once more. Nothing
// may come of it: no event, no effect outside.
func (c *chaos) liveAgain() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	before := systemtest.Read(c.t, c.sys.JetStream())
	c.mu.Lock()
	sent := maps.Clone(c.mails.sent)
	c.mu.Unlock()
	for _, d := range app.Durables() {
		for _, events := range before.Orders {
			for _, e := range events {
				if d.Stream != stream.OrdersStream || !consumes(d, e.Type) {
					continue
				}
				m := &nats.Msg{Subject: event.Redrive(d.Name, e.Subject), Header: nats.Header{}, Data: e.Data}
				for name, values := range e.Header {
					if !strings.HasPrefix(name, "Nats-") {
						m.Header[name] = values
					}
				}
				if _, err := c.sys.JetStream().PublishMsg(ctx, m); err != nil {
					c.t.Fatal(err)
				}
			}
		}
	}
	systemtest.Until(c.t, "everything is handled again", func() bool { return c.idle(ctx) })
	after := systemtest.Read(c.t, c.sys.JetStream())
	for id, events := range after.Orders {
		if got, want := len(events), len(before.Orders[id]); got != want {
			c.t.Errorf("order %s has %d events, and had %d before they were sent again", id, got, want)
		}
	}
	after.Audit(c.t, c.world)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !maps.Equal(sent, c.mails.sent) {
		c.t.Error("a mail was sent again")
	}
}

func consumes(d stream.Durable, t event.Type) bool {
	for _, f := range d.Filters {
		if f == t.Every() {
			return true
		}
	}
	return false
}
