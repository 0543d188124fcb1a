// Package chaos tests what the project promises, whatever fails: no order is lost or
// concluded twice, and no charge, unit of stock, parcel or mail either.
//
// It runs the real server with every service in several replicas, follows a plan of
// package chaosplan, and audits the stream and the world outside.
package chaos

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/systemtest"
)

// Timeouts are short, so that much fails.
const (
	ackWait  = time.Second
	leaseTTL = 1500 * time.Millisecond
	deadline = 3 * time.Second

	snapshotEvery = 10 // messages

	nodeAway      = time.Second
	stepDownEvery = 200 * time.Millisecond
)

func TestChaos(t *testing.T)       { seeds(t, 3, oneServer) }
func TestStressChaos(t *testing.T) { chaosplan.StressOnly(t); seeds(t, 100, oneServer) }

func TestChaosCluster(t *testing.T)       { seeds(t, 1, threeNodes) }
func TestStressChaosCluster(t *testing.T) { chaosplan.StressOnly(t); seeds(t, 20, threeNodes) }

// seeds runs n plans. Two at a time leave a machine that has other work the time to answer.
func seeds(t *testing.T, n uint64, run func(*testing.T, plan)) {
	t.Helper()
	t.Parallel()
	chaosplan.Seeds(t, n, 2, func(t *testing.T, seed uint64) { run(t, newPlan(seed)) })
}

// oneServer runs a plan on one server, whose faults restart it.
func oneServer(t *testing.T, p plan) {
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	c := start(t, p, server.Connect, 1)
	c.restartNATS = server.Restart
	c.customers.Buy()
	c.audit()
}

// threeNodes runs a plan on a cluster. A fault stops one node for a while, and leaders
// keep stepping down.
func threeNodes(t *testing.T, p plan) {
	cluster, err := systemtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c := start(t, p, cluster.Connect, 3)
	node := 0
	c.restartNATS = func() error {
		node = (node + 1) % cluster.Size()
		cluster.Stop(node)
		select {
		case <-time.After(nodeAway):
		case <-c.calm.Done():
		}
		if err := cluster.Start(node); err != nil {
			return err
		}
		for deadline := time.Now().Add(*chaosplan.Patience); !cluster.Whole(); <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				return errors.New("the cluster does not become whole again")
			}
		}
		return nil
	}
	steppedDown := 0
	c.later.Go(func() { steppedDown = c.stepDown() })
	c.customers.Buy()
	c.audit()
	if steppedDown == 0 {
		t.Error("no leader stepped down")
	}
}

// stepDown makes the leaders of the streams and consumers step down in turn until the
// faults end. It returns how often one did.
func (c *chaos) stepDown() (n int) {
	subjects := []string{
		"STREAM.LEADER.STEPDOWN." + stream.OrdersStream, "STREAM.LEADER.STEPDOWN." + stream.DeadlinesStream, "STREAM.LEADER.STEPDOWN." + stream.MailsStream,
		"STREAM.LEADER.STEPDOWN." + stream.DeadLettersStream, "STREAM.LEADER.STEPDOWN.KV_" + stream.LeasesBucket,
	}
	for _, d := range app.Durables() {
		subjects = append(subjects, "CONSUMER.LEADER.STEPDOWN."+d.Stream+"."+d.Name)
	}
	for turn := 0; c.calm.Err() == nil; turn++ {
		answer, err := c.sys.JetStream().Conn().Request("$JS.API."+subjects[turn%len(subjects)], nil, time.Second)
		if err == nil && bytes.Contains(answer.Data, []byte(`"success":true`)) {
			n++
		}
		select {
		case <-time.After(stepDownEvery):
		case <-c.calm.Done():
		}
	}
	return n
}

// audit ends the faults, waits until nothing is left to do, and checks what must hold
// then, from the stream and the world outside. An operator re-drives dead letters.
func (c *chaos) audit() {
	c.t.Helper()
	c.becalm()
	c.later.Wait()
	operator, err := c.sys.Client()
	if err != nil {
		c.t.Fatal(err)
	}
	quiet := systemtest.Quiet{Orders: orderCount, Operator: operator, Patience: *chaosplan.Patience}
	ledger := quiet.Await(c.t, c.sys.JetStream())
	ledger.Audit(c.t, c.world)
	c.customers.Audit(ledger)
	for turn := range replicas[analytics.Name] {
		ledger.AuditAnalytics(c.t, systemtest.Serve(c.t, c.alive(analytics.Name, turn).running.HTTP))
	}
	c.mu.Lock()
	ledger.AuditMails(c.t, c.world.Sent(), func(mail string, _, _ event.Event) int { return c.mails.begun[mail] })
	struck := len(c.struck)
	c.mu.Unlock()
	if struck < faultCount/4 {
		c.t.Errorf("%d of %d faults struck: this shows little", struck, faultCount)
	}
	c.t.Logf("%d of %d faults struck", struck, faultCount)
	c.redeliver(ledger)
}

// redeliver sends every event to every durable that consumes it once more. That must
// not cause any event, nor any effect outside.
func (c *chaos) redeliver(before systemtest.Ledger) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	sent := c.world.Sent()
	for _, d := range app.Durables() {
		for _, events := range before.Orders {
			for _, e := range events {
				if d.Stream != stream.OrdersStream || !slices.Contains(d.Filters(), e.Type.Every()) {
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
	after := systemtest.Settle(c.t, c.sys.JetStream(), orderCount)
	for id, events := range after.Orders {
		if got, want := len(events), len(before.Orders[id]); got != want {
			c.t.Errorf("order %s has %d events, and had %d before they were sent again", id, got, want)
		}
	}
	after.Audit(c.t, c.world)
	if !maps.Equal(sent, c.world.Sent()) {
		c.t.Error("a mail was sent again")
	}
}
