package process

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

// What the project promises holds for processes that are killed and frozen without
// warning, in the midst of whatever they do, and for a NATS server that is killed:
// no order is lost or concluded twice, no charge, unit of stock or parcel either.
// (test/chaos shows the same of broken connections and lost messages, within one
// process.)
//
// A seed stands for a plan: random orders of every scenario, and faults where the
// processes touch the world outside and the stream. It is audited from these alone.

// How long things take when they go wrong. Short, so that much goes wrong.
const (
	ackWait       = time.Second
	leaseTTL      = time.Second
	orderDeadline = 4 * time.Second
)

var oneSeed = flag.Uint64("seed", 0, "run this seed of the chaos tests alone")

// The money, the parcels and the mails are the test's, see outside.
func TestChaosProcesses(t *testing.T) {
	t.Parallel()
	chaosSeeds(t, 1, moderate)
}

// All six services are the real binaries. Nobody keeps books of their money and
// parcels; the stream and the mails must do.
func TestChaosBinaries(t *testing.T) {
	t.Parallel()
	s := moderate
	s.binaries = true
	chaosSeeds(t, 1, s)
}

func TestStressChaosProcesses(t *testing.T) {
	stressOnly(t)
	chaosSeeds(t, 10, heavy)
}

func TestStressChaosBinaries(t *testing.T) {
	stressOnly(t)
	s := heavy
	s.binaries = true
	chaosSeeds(t, 3, s)
}

// A seed is enough to have the same plan again.
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

// chaosSeeds runs so many plans of a size, one after the other.
func chaosSeeds(t *testing.T, n uint64, s size) {
	t.Helper()
	first, last := uint64(1), n
	if *oneSeed > 0 {
		first, last = *oneSeed, *oneSeed
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					name, _, _ := strings.Cut(t.Name(), "/")
					flags := ""
					if *stress {
						flags = " -stress"
					}
					t.Logf("again: go test ./test/process -run '^%s$' -seed %d%s", name, seed, flags)
				}
			})
			runChaos(t, newPlan(seed, s))
		})
	}
}

// chaos is one run of a plan.
type chaos struct {
	t        *testing.T
	plan     plan
	js       jetstream.JetStream // an administrator's
	operator *stream.Client      // for dead letters
	nats     *natsServer
	port     string            // that NATS has for good
	world    *systemtest.World // money and parcels, unless all are the real binaries
	outside  string            // its URL
	client   http.Client       // the customers'
	turns    atomic.Int64      // of the replicas of orders
	pending  atomic.Int64      // what is to be done later
	tasks    chan func()
	began    time.Time

	mu        sync.Mutex
	calm      bool       // no more faults
	fleet     []*replica // all that there ever were
	down      bool       // NATS is
	holder    string     // of inventory's last lease message
	token     uint64     // the highest that inventory has published with
	passed    map[string]int
	doomed    map[string]fault // that strikes again, by effect and order
	outages   []outage
	mails     map[string][]sent // by Message-ID
	taken     map[int]string    // orders that were answered 202, by purchase
	cancelled map[string]bool   // whether the cancellation of an order was answered 202
	hits      hits
	notes     []string
}

func runChaos(t *testing.T, p plan) {
	t.Helper()
	c := &chaos{
		t: t, plan: p, world: systemtest.NewWorld(), tasks: make(chan func()), port: ownPort(),
		client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}, began: time.Now(),
		passed: map[string]int{}, doomed: map[string]fault{}, mails: map[string][]sent{},
		taken: map[int]string{}, cancelled: map[string]bool{},
	}
	t.Cleanup(func() {
		c.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("the plan:\n%s\nwhat struck:\n%s", p, strings.Join(c.notes, "\n"))
		}
	})
	c.start()
	var customers sync.WaitGroup
	for i, purchase := range p.purchases {
		customers.Go(func() { c.buy(i, purchase) })
	}
	left, calm := make(chan struct{}), make(chan struct{})
	go func() { customers.Wait(); close(left) }()
	var operator sync.WaitGroup
	operator.Go(func() { c.operate(calm) })
	c.begin()
	c.conduct(left)
	c.becalm()

	c.note("calm")
	close(calm)
	operator.Wait()
	c.checkFleet()
	c.askAgain()
	l := c.settle()
	c.note("settled")
	c.audit(l)
	if c.hits.effects+c.hits.handling == 0 || c.hits.restarts == 0 {
		t.Errorf("the faults hit too little to show anything: %s", c.hits)
	}
}

// start starts everything, and waits until it can work.
func (c *chaos) start() {
	c.t.Helper()
	if !c.plan.binaries {
		// Else an audit takes it that the money goes elsewhere.
		c.world.Use(&app.Config{})
		world := httptest.NewServer(c)
		c.t.Cleanup(world.Close)
		c.outside = world.URL
	}
	c.nats = startNATSOn(c.t, c.t.TempDir(), c.port)
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
