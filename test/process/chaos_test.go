package process

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/systemtest"
)

// These tests show the same as test/chaos for processes that are killed and frozen
// without warning, in the middle of their work, and for a NATS server that is killed.

// Timeouts are short, so that much fails.
const (
	ackWait       = time.Second
	leaseTTL      = time.Second
	orderDeadline = 4 * time.Second
)

// The test keeps the books of the money, the parcels and the mails: see outside.
func TestChaosProcesses(t *testing.T) {
	t.Parallel()
	chaosSeeds(t, 1, moderate)
}

// All six services are the real binaries. Nothing keeps books of their money and their
// parcels, so the audit has the stream and the mails.
func TestChaosBinaries(t *testing.T) {
	t.Parallel()
	s := moderate
	s.binaries = true
	chaosSeeds(t, 1, s)
}

func TestStressChaosProcesses(t *testing.T) {
	chaosplan.StressOnly(t)
	chaosSeeds(t, 10, heavy)
}

func TestStressChaosBinaries(t *testing.T) {
	chaosplan.StressOnly(t)
	s := heavy
	s.binaries = true
	chaosSeeds(t, 3, s)
}

func chaosSeeds(t *testing.T, n uint64, s size) {
	t.Helper()
	chaosplan.Seeds(t, n, 1, func(t *testing.T, seed uint64) { runChaos(t, newPlan(seed, s)) })
}

// A seed determines the plan.
func TestChaosPlan(t *testing.T) {
	for _, s := range []size{moderate, heavy} {
		one, again, other := newPlan(1, s), newPlan(1, s), newPlan(2, s)
		if !reflect.DeepEqual(one, again) {
			t.Error("two plans of one seed differ")
		}
		if reflect.DeepEqual(one.purchases, other.purchases) || reflect.DeepEqual(one.faults, other.faults) {
			t.Error("the plans of two seeds do not differ")
		}
	}
}

// chaos is one run of a plan.
type chaos struct {
	t         *testing.T
	plan      plan
	js        jetstream.JetStream // an administrator's
	operator  *stream.Client      // re-drives dead letters
	world     *systemtest.World   // money and parcels, unless all services are the real binaries
	outside   string              // its address
	customers chaosplan.Customers
	points    chaosplan.Points[fault]
	turns     atomic.Int64   // of the replicas of orders
	later     sync.WaitGroup // what faults have scheduled
	began     time.Time
	effects   atomic.Int64 // replicas that were killed between an effect and the event that records it
	restarts  atomic.Int64 // of NATS

	mu      sync.Mutex
	nats    *natsServer
	down    bool             // NATS is
	calm    bool             // no more faults
	fleet   []*replica       // all that were ever started
	holder  string           // of inventory's last lease message
	doomed  map[string]fault // that strikes again, by effect and order
	outages []outage
	mails   map[string][]sent // by Message-ID
	notes   []string
}

func runChaos(t *testing.T, p plan) {
	t.Helper()
	c := &chaos{
		t: t, plan: p, world: systemtest.NewWorld(), points: chaosplan.Points[fault]{Faults: p.faults},
		doomed: map[string]fault{}, mails: map[string][]sent{},
	}
	c.customers = chaosplan.Customers{T: t, Purchases: p.purchases, Shop: c.shop}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the plan:\n%s\nwhat struck:\n%s", p, strings.Join(c.notes, "\n"))
		}
	})
	c.start()
	t.Cleanup(c.becalm) // before the processes end
	operating, stop := context.WithCancel(t.Context())
	var operator sync.WaitGroup
	operator.Go(func() { c.operate(operating) })
	for _, f := range p.timed {
		c.after(f.at, func() { c.strikeInTime(f) })
	}
	c.customers.Buy()
	c.becalm()
	stop()
	operator.Wait()
	c.checkFleet()
	c.customers.BuyAgain()
	c.audit(systemtest.Quiet{Orders: p.orders, Operator: c.operator}.Await(t, c.js))
	if c.effects.Load() == 0 || c.restarts.Load() == 0 {
		t.Error("the faults hit too little to show anything")
	}
}

// start starts everything, and waits until it can work.
func (c *chaos) start() {
	c.t.Helper()
	if !c.plan.binaries {
		c.world.Use(&systemtest.Config{}) // its audit includes the money
		c.serveWorld()
	}
	c.nats = startNATSOn(c.t, c.t.TempDir(), freePort(c.t))
	nc, err := nats.Connect(c.nats.unlimited(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	if c.js, err = jetstream.New(nc); err != nil {
		c.t.Fatal(err)
	}
	untraced := tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()))
	if c.operator, err = stream.New(nc, untraced, slog.New(slog.DiscardHandler)); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := stream.Provision(ctx, c.js, stream.Topology{AckWait: ackWait, LeaseTTL: leaseTTL, Durables: app.Durables()}); err != nil {
		c.t.Fatal(err)
	}
	c.watch()
	for _, name := range services {
		for range c.plan.replicas[name] {
			c.launch(name)
		}
	}
	for _, r := range c.fleet {
		r.ready(c.t)
	}
	c.began = time.Now()
}

// operate re-drives dead letters as soon as they exist.
func (c *chaos) operate(ctx context.Context) {
	for ctx.Err() == nil {
		_, _ = systemtest.Redrive(ctx, c.operator) // NATS may be away
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// audit checks what must hold, from the stream and the world outside.
func (c *chaos) audit(l systemtest.Ledger) {
	c.t.Helper()
	for _, r := range c.alive(analytics.Name) {
		l.AuditAnalytics(c.t, r.url(c.t))
	}
	c.customers.AuditShop(l)
	// A replica that was frozen may still work on what another one has done. It finishes
	// that, without any effect.
	for _, r := range c.alive() {
		r.signal(c.t, syscall.SIGTERM)
	}
	for _, r := range c.alive() {
		if code := r.wait(c.t, 10*time.Second); code != 0 {
			c.t.Errorf("%s: exit code %d on SIGTERM", r.service, code)
		}
	}
	before := l.Events()
	if l = systemtest.Read(c.t, c.js); l.Events() != before {
		c.t.Errorf("%d events came after the quiet", l.Events()-before)
	}
	world := c.world
	if c.plan.binaries {
		world = nil
	}
	l.Audit(c.t, world)
	c.customers.Audit(l)
	l.AuditMails(c.t, c.world.Sent(), c.mostMails)
	c.t.Logf("%d orders, %d shipped; %d processes, %d killed between an effect and its event, NATS killed %d times",
		len(l.Orders), l.Count(event.FulfillmentShipped), len(c.fleet), c.effects.Load(), c.restarts.Load())
}

// note keeps a line for the log of a run that fails.
func (c *chaos) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, fmt.Sprintf("%7.3fs ", time.Since(c.began).Seconds())+fmt.Sprintf(format, args...))
}
