package chaos

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/systemtest"
)

func TestChaosReplaced(t *testing.T)       { seeds(t, 4, replacedStream) }
func TestStressChaosReplaced(t *testing.T) { chaosplan.StressOnly(t); seeds(t, 60, replacedStream) }

// When the stream is replaced, and what the seed determines: how.
const (
	backupAfter  = time.Second
	replaceAfter = 800 * time.Millisecond // after the backup
)

// replacedStream runs a plan during which the stream is deleted, wiped, restored to an
// earlier state, or loses its newest messages. What was lost is gone; every order that
// is in the stream afterwards or comes then has the right end.
func replacedStream(t *testing.T, p plan) {
	p.lagging = false // a mirror would keep what its origin has lost
	for at, f := range p.faults {
		if f.kind == stale { // it cancels an order, which may be lost
			delete(p.faults, at)
		}
	}
	for i := range p.purchases {
		p.purchases[i].Cancel = 0
		// A deadline may be lost with the old store, and its order come into the new one.
		if buy := &p.purchases[i].Scenario; buy.Token == "tok_poison" {
			buy.Token = "tok_ok"
		}
	}
	store := systemtest.NewStore(t)
	c := start(t, p, store.Connect, 1)
	c.restartNATS = func() error { store.Change(t, func(string) {}); return nil }
	c.later.Go(func() { c.replace(store) })
	c.customers.Buy()
	c.becalm()
	c.later.Wait()
	c.plantLetters()

	second := chaosplan.Customers{
		T: t, Wave: "second-", Shop: c.customers.Shop,
		Purchases: chaosplan.Purchases(chaosplan.Random(p.seed+1000), orderCount/2, time.Second, 600*time.Millisecond),
	}
	second.Buy()
	c.auditReplaced(second.Taken())
	c.auditLetters()
}

// replace replaces the stream in the midst of the purchases.
func (c *chaos) replace(store *systemtest.Store) {
	<-time.After(backupAfter)
	c.restarting.Lock()
	defer c.restarting.Unlock()
	restore := store.Backup(c.t)
	<-time.After(replaceAfter)
	switch c.plan.seed % 4 {
	case 0:
		systemtest.Until(c.t, "the stream is deleted", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err := c.sys.JetStream().DeleteStream(ctx, stream.OrdersStream)
			return err == nil || errors.Is(err, jetstream.ErrStreamNotFound) // an attempt without an answer has deleted it
		})
	case 1:
		store.Wipe(c.t)
	case 2:
		restore(".")
	case 3:
		restore(systemtest.StreamPath(stream.OrdersStream))
	}
	systemtest.Until(c.t, "the streams are provisioned", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return stream.Provision(ctx, c.sys.JetStream(), stream.Topology{AckWait: ackWait, LeaseTTL: leaseTTL, Durables: app.Durables()}) == nil
	})
	c.unlimit() // the backup may contain the limit of a full stream
}

// auditReplaced waits until all orders that the stream has are done, and checks them.
// What happened outside is checked for the new orders: for the others, the stream may
// have forgotten it.
func (c *chaos) auditReplaced(placed []string) {
	c.t.Helper()
	if len(placed) != orderCount/2 {
		c.t.Errorf("%d new orders were accepted, want %d", len(placed), orderCount/2)
	}
	operator, err := c.sys.Client()
	if err != nil {
		c.t.Fatal(err)
	}
	known := func(events []event.Event) bool {
		_, ok := event.Find(events, event.OrderCreated)
		return ok
	}
	quiet := systemtest.Quiet{Orders: len(placed), Patience: *chaosplan.Patience, Done: func(events []event.Event) error {
		if !known(events) { // a handler that was running has published about a lost order
			return nil
		}
		err := systemtest.Closed(events)
		if err != nil {
			c.redrive(operator, events[0].Key)
		}
		return err
	}}
	ledger := quiet.Await(c.t, c.sys.JetStream())
	for turn := range replicas[analytics.Name] {
		ledger.AuditAnalytics(c.t, systemtest.Serve(c.t, c.alive(analytics.Name, turn).running.HTTP))
	}
	for id, events := range ledger.Orders {
		if !known(events) {
			delete(ledger.Orders, id)
		}
	}
	if c.plan.seed%4 < 2 { // else a handler may have shipped an order whose outcome was lost
		ledger.Audit(c.t, nil)
	}
	fresh := ledger
	fresh.Stock, fresh.Orders = nil, map[string][]event.Event{}
	for _, id := range placed {
		if fresh.Orders[id] = ledger.Orders[id]; len(ledger.Orders[id]) == 0 {
			c.t.Errorf("order %s is lost", id)
			delete(fresh.Orders, id)
		}
	}
	fresh.Audit(c.t, c.world)
}

// redrive sends the dead letters of an order again.
func (c *chaos) redrive(operator *stream.Client, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	letters, err := operator.DeadLetters(ctx)
	for _, l := range letters {
		if err == nil && strings.HasSuffix(l.Subject, id) {
			err = operator.Redrive(ctx, l.ID)
		}
	}
	if err != nil {
		c.t.Logf("re-drive: %v", err)
	}
}

// planted is the number of sequences whose dead letters exist from an earlier stream.
const planted = 2000

// plantLetters stores dead letters of an earlier stream on the subjects of all messages
// that the present one will have.
func (c *chaos) plantLetters() {
	c.t.Helper()
	js := c.sys.JetStream()
	for _, durable := range []string{payments.Name, notify.Name} {
		for sequence := range planted {
			if _, err := js.PublishAsync(event.DeadLetter(durable, strconv.Itoa(sequence+1)), nil); err != nil {
				c.t.Fatal(err)
			}
			if sequence%500 == 499 {
				<-js.PublishAsyncComplete()
			}
		}
	}
}

// auditLetters stores an event that no service can handle. It must become a dead letter of
// each durable that consumes it.
func (c *chaos) auditLetters() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	id := event.NewOrderID()
	subject := event.OrderCreated.Subject(id)
	ack, err := c.sys.JetStream().PublishMsg(ctx, &nats.Msg{
		Subject: subject, Header: nats.Header{event.HeaderID: {subject}}, Data: []byte(`{"order_id":"` + id + `","items":"?"}`),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if ack.Sequence > planted {
		c.t.Fatalf("the stream has %d messages: plant more dead letters", ack.Sequence)
	}
	operator, err := c.sys.Client()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, durable := range []string{payments.Name, notify.Name} {
		until := time.Now().Add(*chaosplan.Patience)
		for {
			l, err := operator.DeadLetter(ctx, durable+"."+strconv.FormatUint(ack.Sequence, 10))
			if err == nil && l.Subject == subject {
				break
			}
			if time.Now().After(until) {
				c.t.Errorf("%s has no dead letter of %s, but %q (%v)", durable, subject, l.Subject, err)
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}
