package process

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/smtptest"
	"example.org/ordertrail/test/systemtest"
)

// These tests kill and freeze the real binaries, and NATS, at random times. test/chaos
// strikes at exact points of the services' work, and keeps the books of the money.

// Timeouts are short, so that much fails.
const (
	ackWait       = time.Second
	leaseTTL      = time.Second
	orderDeadline = 4 * time.Second
)

func TestChaosProcesses(t *testing.T) {
	full.Only(t)
	t.Parallel()
	chaosplan.Seeds(t, 1, 1, func(t *testing.T, seed uint64) { runChaos(t, seed, 100, 20, 2, 3*time.Second) })
}

func TestStressChaosProcesses(t *testing.T) {
	chaosplan.StressOnly(t)
	chaosplan.Seeds(t, 10, 1, func(t *testing.T, seed uint64) { runChaos(t, seed, 400, 60, 3, 14*time.Second) })
}

// fault strikes a process.
type fault struct {
	at      time.Duration // from the start
	service string        // "": NATS
	which   int           // chooses one of the service's replicas
	signal  syscall.Signal
	hold    time.Duration // until a frozen process goes on, or the successor of another one starts
}

// newFaults draws n faults within a time, and those that each run has.
func newFaults(random *rand.Rand, n int, within time.Duration) (all []fault) {
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM}
	for range n {
		f := fault{at: chaosplan.UpTo(random, within), service: services[random.IntN(len(services))], which: random.IntN(100)}
		f.signal, f.hold = signals[random.IntN(len(signals))], chaosplan.UpTo(random, 400*time.Millisecond)
		if f.signal == syscall.SIGSTOP { // sometimes longer than AckWait and the lease
			f.hold = 200*time.Millisecond + chaosplan.UpTo(random, 2*leaseTTL)
		}
		all = append(all, f)
	}
	for which := range 2 { // one of them is the writer, which finds another one when it goes on
		all = append(all, fault{
			at: chaosplan.UpTo(random, within/2), service: inventory.Name, which: which,
			signal: syscall.SIGSTOP, hold: 2*leaseTTL + chaosplan.UpTo(random, leaseTTL),
		})
	}
	// Rather late: a replica that is frozen meanwhile has lost its connection when it goes on.
	return append(all, fault{
		at: within*2/3 + chaosplan.UpTo(random, within/3), signal: syscall.SIGKILL, hold: chaosplan.UpTo(random, 500*time.Millisecond),
	})
}

// replica is one process of a service.
type replica struct {
	*process
	gone, frozen bool // guarded by chaos.mu
}

// chaos is one run.
type chaos struct {
	t     *testing.T
	js    jetstream.JetStream // an administrator's
	mail  *smtptest.Server
	turns atomic.Int64   // of the replicas of orders
	later sync.WaitGroup // what faults have scheduled

	mu     sync.Mutex
	nats   *natsServer
	calm   bool           // no more faults
	fleet  []*replica     // all that were ever started
	struck map[string]int // faults, by the service that they hit; "" is NATS
}

func runChaos(t *testing.T, seed uint64, n, faults, replicas int, within time.Duration) {
	t.Helper()
	random := chaosplan.Random(seed)
	c := &chaos{t: t, mail: smtptest.Start(t), nats: startNATSOn(t, t.TempDir(), freePort(t)), struck: map[string]int{}}
	nc, err := nats.Connect(c.nats.unlimited(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if c.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := stream.Provision(systemtest.Context(t), c.js, stream.Topology{AckWait: ackWait, LeaseTTL: leaseTTL, Durables: app.Durables()}); err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		for range replicas {
			c.launch(name)
		}
	}
	for _, r := range c.fleet {
		r.ready(t)
	}
	t.Cleanup(c.becalm) // before the processes end
	customers := chaosplan.Customers{T: t, Shop: c.shop, Purchases: chaosplan.Purchases(random, n, within, 800*time.Millisecond)}
	for _, f := range newFaults(random, faults, within) {
		c.after(f.at, func() { c.strike(f) })
	}
	customers.Buy()
	c.becalm()

	for _, name := range services {
		if got := len(c.alive(name)); got != replicas {
			t.Errorf("%d replicas of %s, want %d", got, name, replicas)
		}
	}
	for _, r := range c.fleet {
		switch {
		case r.gone:
			systemtest.Until(t, r.name+" has ended", r.ended)
		case r.ended():
			t.Errorf("%s ended by itself", r.name)
		default:
			r.ready(t)
		}
	}
	customers.BuyAgain()
	untraced := tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider()))
	operator, err := stream.New(nc, untraced, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ledger := systemtest.Quiet{Orders: n, Operator: operator}.Await(t, c.js)
	for _, r := range c.alive(analytics.Name) {
		ledger.AuditAnalytics(t, r.url(t))
	}
	customers.AuditShop(ledger)
	// A replica that was frozen may still work on what another one has done. It finishes
	// that, without any effect.
	var last []*process
	for _, r := range c.alive(services...) {
		r.signal(t, syscall.SIGTERM)
		last = append(last, r.process)
	}
	exitAll(t, last)
	before := ledger.Events()
	if ledger = systemtest.Read(t, c.js); ledger.Events() != before {
		t.Errorf("%d events came after the quiet", ledger.Events()-before)
	}
	ledger.Audit(t, nil)
	customers.Audit(ledger)
	// A mail may be sent again if the event that records it is not stored in time.
	ledger.AuditMails(t, c.mail.Sent(), func(_ string, cause, fact event.Event) int {
		return 1 + int(fact.Time.Sub(cause.Time)/ackWait) + c.struck[notify.Name] + c.struck[""]
	})
	t.Logf("%d orders, %d shipped; faults that struck: %v", len(ledger.Orders), ledger.Count(event.FulfillmentShipped), c.struck)
	if len(c.struck) < len(services) || c.struck[""] == 0 {
		t.Errorf("the faults struck too little to show anything: %v", c.struck)
	}
}

// launch starts a replica.
func (c *chaos) launch(service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.nats.service(c.t, service, "ORDER_DEADLINE="+orderDeadline.String(), "SMTP_URL="+c.mail.URL().String())
	c.fleet = append(c.fleet, &replica{process: p})
}

// alive returns the living replicas of these services. Frozen ones live.
func (c *chaos) alive(of ...string) []*replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.fleet), func(r *replica) bool { return r.gone || !slices.Contains(of, r.name) })
}

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

// strike makes a fault happen, unless its process is gone or frozen already.
func (c *chaos) strike(f fault) {
	all := c.alive(f.service)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm || f.service != "" && len(all) == 0 {
		return
	}
	if f.service == "" {
		killed := c.nats
		killed.signal(c.t, f.signal)
		c.after(f.hold, func() {
			<-killed.exited
			again := startNATSOn(c.t, killed.store, killed.port())
			c.mu.Lock()
			defer c.mu.Unlock()
			c.nats = again
		})
	} else {
		r := all[f.which%len(all)]
		if r.gone || r.frozen {
			return
		}
		r.signal(c.t, f.signal)
		if r.frozen = f.signal == syscall.SIGSTOP; r.frozen {
			c.after(f.hold, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				r.frozen = false
				r.signal(c.t, syscall.SIGCONT)
			})
		} else {
			r.gone = true
			c.after(f.hold, func() { c.launch(f.service) })
		}
	}
	c.struck[f.service]++
}
