package process

import (
	"context"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// fleet runs one replica of each service, and returns the shop.
func fleet(t *testing.T, server *natsServer, env ...string) (all map[string]*process, shop demo.Shop) {
	t.Helper()
	all = map[string]*process{}
	for _, name := range services {
		all[name] = server.service(t, name, env...)
	}
	for _, p := range all {
		p.ready(t)
	}
	return all, demo.Shop{URL: all[orders.Name].url(t), Client: http.DefaultClient}
}

// refuses places orders until the shop refuses one with 503, a reason, and when to
// come back. It returns those that were taken meanwhile.
func refuses(t *testing.T, shop demo.Shop, reason string) (taken []demo.Order) {
	t.Helper()
	systemtest.Until(t, "the shop says: "+reason, func() bool {
		order, err := shop.Place(context.Background(), demo.Scenarios()[0])
		if err == nil {
			taken = append(taken, order)
			return false
		}
		refusal := new(demo.StatusError)
		if !errors.As(err, &refusal) || refusal.Code != http.StatusServiceUnavailable || refusal.RetryAfter == 0 {
			t.Fatalf("the shop says %v, want 503 and when to come back", err)
		}
		return strings.Contains(err.Error(), reason)
	})
	return taken
}

// A shop that loses NATS says so, and needs nobody when it is there again. Orders
// that were taken before are concluded.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	store, port := t.TempDir(), freePort(t)
	server := startNATSOn(t, store, port)
	server.provision(t)
	all, shop := fleet(t, server)
	slow := demo.Scenarios()[0]
	slow.Token = "tok_slow"
	before, err := shop.Place(context.Background(), slow)
	if err != nil {
		t.Fatal(err)
	}
	server.stopNATS(t)
	refuses(t, shop, "no connection to NATS")
	for _, p := range all {
		p.said(t, &p.stderr, `level=WARN msg="disconnected from NATS"`)
	}
	startNATSOn(t, store, port)
	for _, p := range all {
		p.said(t, &p.stderr, `msg="reconnected to NATS"`)
		p.ready(t)
	}
	concluded(t, shop, before)
	play(t, demo.Scenarios()[:3], shop.URL)
}

// concluded waits until orders have been shipped.
func concluded(t *testing.T, shop demo.Shop, taken ...demo.Order) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	for _, order := range taken {
		end, err := shop.Await(ctx, order.ID, func(o demo.Order) bool { return o.State == orders.StateShipped })
		if err != nil {
			t.Errorf("order %s, taken before, is %s: %v", order.ID, end.State, err)
		}
	}
}

// A store that is full takes no order, which the shop and its log say. With more
// room, all goes on, and what was taken is concluded.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	store, port := t.TempDir(), freePort(t)
	server := startNATSWith(t, withTester(t, "\tmax_file_store: 400KB"), store, port)
	server.provision(t)
	all, shop := fleet(t, server, "ORDER_DEADLINE=60s")
	taken := refuses(t, shop, "the disk of NATS is full")
	if len(taken) == 0 {
		t.Error("it was full from the beginning")
	}
	p := all[orders.Name]
	p.said(t, &p.stderr, `level=ERROR msg="request failed" .*(insufficient|resources)`)

	server.stopNATS(t)
	startNATSOn(t, store, port)
	for _, p := range all {
		p.ready(t)
	}
	concluded(t, shop, taken...)
	play(t, demo.Scenarios()[:3], shop.URL)
}

// Neither a Jaeger that is not there nor one that takes everything and never answers
// keeps an order waiting, or a service from its end in time; one line tells of it.
func TestJaegerAway(t *testing.T) {
	t.Parallel()
	silent := listen(t)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			go func() { // reads, and says nothing
				defer func() { _ = c.Close() }()
				buf := make([]byte, 1<<16)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	for name, tt := range map[string]struct {
		endpoint string
		refuses  bool
	}{
		"Refuses": {"http://127.0.0.1:" + freePort(t), true},
		"Silent":  {"http://" + silent.Addr().(*net.TCPAddr).String(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			server := startNATS(t)
			server.provision(t)
			// A queue that is full at once.
			all, shop := fleet(t, server, soon, "OTEL_EXPORTER_OTLP_ENDPOINT="+tt.endpoint, "OTEL_BSP_MAX_QUEUE_SIZE=64",
				"OTEL_BSP_MAX_EXPORT_BATCH_SIZE=32", "OTEL_BSP_SCHEDULE_DELAY=10")
			const n = 300
			var out systemtest.Output
			if err := load.Run(context.Background(), load.Options{URL: shop.URL, Orders: n, Concurrency: 8, Out: &out}); err != nil {
				t.Error(err)
			}
			systemtest.Until(t, "analytics has counted", func() bool {
				return systemtest.GetAnalytics(t, all[analytics.Name].url(t)).Orders.Shipped == n
			})
			// One line a minute, and one about what was left at the end.
			lost, left := regexp.MustCompile(`(?m)^.*telemetry is lost.*$`), regexp.MustCompile(`(?m)^.*last spans are lost.*$`)
			most := 1 + int(time.Since(start)/time.Minute)
			for _, p := range all { // all at once: each may wait for the collector
				p.signal(t, syscall.SIGTERM)
			}
			for name, p := range all {
				if code := p.wait(t, 10*time.Second); code != 0 {
					t.Errorf("%s: exit code %d on SIGTERM", name, code)
				}
				told := lost.FindAllString(p.stderr.String(), -1)
				if len(told) > most || len(told) == 0 && tt.refuses {
					t.Errorf("%s says %d times that its exporter fails, want 1 to %d: %q", name, len(told), most, told)
				}
				if end := left.FindAllString(p.stderr.String(), -1); len(end) > 1 {
					t.Errorf("%s says %d times that its last spans are lost: %q", name, len(end), end)
				}
			}
		})
	}
}
