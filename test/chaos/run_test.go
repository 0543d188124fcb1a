package chaos

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/systemtest"
)

// chaos is one run of a plan.
type chaos struct {
	t           *testing.T
	plan        plan
	sys         *systemtest.Replicas
	net         *systemtest.Network
	world       *systemtest.World
	customers   chaosplan.Customers
	points      chaosplan.Points[fault]
	restartNATS func() error
	requests    atomic.Int64 // of customers
	log         systemtest.Output

	calm   context.Context // ends when no more faults may strike
	becalm context.CancelFunc
	later  errands // started by faults

	launching  sync.Mutex // one replica at a time
	restarting sync.Mutex // two servers on one store would assign the same sequences

	mu       sync.Mutex
	arrived  map[string]int // deliveries, by durable
	replicas map[string][]*replica
	mails    mails
	struck   []string
}

// replica is one running instance of a service.
type replica struct {
	service string
	dead    atomic.Bool
	up      chan struct{} // closed when the following are there
	running *systemtest.Replica
	client  *systemtest.Client
}

// replicas of each service at the start. A killed replica gets a successor.
var replicas = map[string]int{
	orders.Name: 2, payments.Name: 2, inventory.Name: 2, fulfillment.Name: 2, notify.Name: 2, analytics.Name: 2,
}

// start runs the whole system on connections that faults can harm.
func start(t *testing.T, p plan, connect func(...nats.Option) (*nats.Conn, error), streams int) *chaos {
	t.Helper()
	c := &chaos{
		t: t, plan: p, world: systemtest.NewWorld(), net: systemtest.NewNetwork(connect),
		points: chaosplan.Points[fault]{Faults: p.faults}, arrived: map[string]int{}, replicas: map[string][]*replica{},
		mails: mails{recorded: map[string]bool{}, begun: map[string]int{}},
	}
	c.calm, c.becalm = context.WithCancel(context.Background())
	c.net.BeforeSend = c.sending
	cfg := systemtest.Config{
		Connect: func(opts ...nats.Option) (*nats.Conn, error) {
			return c.net.Connect(append(opts, nats.ReconnectWait(20*time.Millisecond))...)
		},
		Topology: stream.Topology{Replicas: streams, AckWait: ackWait, LeaseTTL: leaseTTL},
		Settings: service.Settings{OrderDeadline: deadline},
		Replicas: replicas,
		Log:      slog.NewTextHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelWarn}),
		Stream:   c.born,
		Wire:     map[string]service.Wire{},
	}
	c.world.Use(&cfg)
	cfg.Wire[payments.Name] = func(rt *service.Runtime) (service.Part, error) { return payments.New(rt, c.face(payments.Name)), nil }
	cfg.Wire[fulfillment.Name] = func(rt *service.Runtime) (service.Part, error) {
		return fulfillment.New(rt, c.face(fulfillment.Name)), nil
	}
	cfg.Wire[inventory.Name] = func(rt *service.Runtime) (service.Part, error) { return inventory.New(rt, snapshotEvery), nil }
	cfg.Wire[notify.Name] = func(rt *service.Runtime) (service.Part, error) {
		return notify.NewWithRetries(rt, c.face(notify.Name), notify.Retries{Pauses: []time.Duration{100 * time.Millisecond}, For: time.Hour}), nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	var err error
	if c.sys, err = systemtest.Run(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if p.lagging && streams == 1 {
		// A mirror answers reads in place of its origin, and is always a bit behind.
		if _, err := c.sys.JetStream().CreateStream(ctx, jetstream.StreamConfig{
			Name: "LAGGING", Mirror: &jetstream.StreamSource{Name: stream.OrdersStream}, MirrorDirect: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	for name, all := range c.replicas {
		for i, r := range all {
			r.running, r.client = c.sys.Replica(name, i), c.net.Client(name, i)
			close(r.up)
		}
	}
	front := httptest.NewServer(http.HandlerFunc(c.serve))
	shop := demo.Shop{URL: front.URL, Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	c.customers = chaosplan.Customers{T: t, Purchases: p.purchases, Shop: func() (demo.Shop, error) { return shop, nil }}
	t.Cleanup(func() {
		c.becalm()
		c.later.Wait()
		front.Close()
		shop.Client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
		defer cancel()
		if err := c.sys.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		c.net.Close()
		if t.Failed() {
			t.Logf("%d faults struck:\n  %s", len(c.struck), strings.Join(c.struck, "\n  "))
			t.Logf("log:\n%.20000s", c.log.String())
		}
	})
	return c
}

// born is called for each replica that is about to start.
func (c *chaos) born(service string) []stream.Option {
	r := &replica{service: service, up: make(chan struct{})}
	c.mu.Lock()
	c.replicas[service] = append(c.replicas[service], r)
	c.mu.Unlock()
	return []stream.Option{
		stream.OnStore(func(t event.Type, key string) {
			if t.Domain() == notify.Name {
				c.recorded(notify.MessageID(t, key))
			}
			c.pass(string(t), r)
		}),
		stream.OnDeliver(func(durable string, m jetstream.Msg) []jetstream.Msg { return c.arrive(r, durable, m) }),
	}
}

// latest is the replica that was born last.
func (c *chaos) latest(service string) *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.replicas[service]
	return all[len(all)-1]
}

// launch starts a replica, as soon as NATS is available.
func (c *chaos) launch(name string) {
	c.launching.Lock()
	defer c.launching.Unlock()
	for until := time.Now().Add(systemtest.Patience); ; {
		running, err := c.sys.Run(context.Background(), name)
		r := c.latest(name)
		if err == nil {
			c.mu.Lock()
			n := len(c.replicas[name]) - 1
			c.mu.Unlock()
			r.running, r.client = running, c.net.Client(name, n)
			close(r.up)
			return
		}
		c.mu.Lock()
		c.replicas[name] = c.replicas[name][:len(c.replicas[name])-1] // stillborn
		c.mu.Unlock()
		if time.Now().After(until) {
			c.t.Errorf("start %s: %v", name, err)
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// alive returns a living replica of a service, another one for each turn.
func (c *chaos) alive(service string, turn int) *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(c.replicas[service]), func(r *replica) bool {
		select {
		case <-r.up:
			return r.dead.Load()
		default:
			return true
		}
	})
	if len(all) == 0 {
		return nil
	}
	return all[turn%len(all)]
}

// serve passes a request to a living replica of orders. If the replica dies meanwhile, the
// customer gets no answer.
func (c *chaos) serve(w http.ResponseWriter, r *http.Request) {
	served := c.alive(orders.Name, int(c.requests.Add(1)))
	if served == nil {
		panic(http.ErrAbortHandler)
	}
	answer := httptest.NewRecorder()
	served.running.HTTP.ServeHTTP(answer, r)
	if served.dead.Load() {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// sending is called with the bytes that a client is about to send, before the server has
// them.
func (c *chaos) sending(client *systemtest.Client, data []byte) {
	for _, sent := range []struct{ point, domain, subject string }{
		{"send payments", payments.Name, "payments."}, {"send inventory", inventory.Name, "inventory."},
		{"send fulfillment", fulfillment.Name, "fulfillment."}, {"send notify", notify.Name, "notify."},
		{snapshotPoint, inventory.Name, "$KV." + stream.StockBucket},
	} {
		domain, point := sent.domain, sent.point
		if !bytes.Contains(data, []byte("HPUB "+sent.subject)) {
			continue
		}
		c.mu.Lock()
		i := slices.IndexFunc(c.replicas[domain], func(r *replica) bool {
			select {
			case <-r.up:
				return r.client == client
			default:
				return false
			}
		})
		var r *replica
		if i >= 0 {
			r = c.replicas[domain][i]
		}
		c.mu.Unlock()
		if r != nil {
			c.pass(point, r, data...)
		}
	}
}
