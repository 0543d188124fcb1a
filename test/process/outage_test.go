package process

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/load"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/full"
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
	systemtest.Until(t, "the shop answers: "+reason, func() bool {
		order, err := shop.Place(context.Background(), demo.Scenarios()[0])
		if err == nil {
			taken = append(taken, order)
			return false
		}
		refusal := new(demo.StatusError)
		if !errors.As(err, &refusal) || refusal.Code != http.StatusServiceUnavailable || refusal.RetryAfter == 0 {
			t.Fatalf("the shop answers %v, want 503 with Retry-After", err)
		}
		return strings.Contains(err.Error(), reason)
	})
	return taken
}

// Whatever keeps NATS from storing orders, the shop answers 503 with the reason and when
// to come back, and works again by itself afterwards. Orders that it took are concluded.
func TestNATSFails(t *testing.T) {
	full.Only(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		store  func(*testing.T) string // its directory
		limit  string                  // a line of the server's configuration
		fail   func(t *testing.T, server *natsServer)
		repair func(t *testing.T, store string)
		reason string // in the shop's answer
		logged string // by the shop
	}{
		"Away": {
			fail:   func(t *testing.T, server *natsServer) { server.stopNATS(t) },
			reason: "no connection to NATS", logged: `level=WARN msg="disconnected from NATS"`,
		},
		"StoreFull": {
			limit:  "\tmax_file_store: 400KB",
			reason: "the disk of NATS is full", logged: `level=ERROR msg="request failed" .*(insufficient|resources)`,
		},
		// The server does not know this limit: it stops answering, and needs a restart.
		"DiskFull": {
			store: smallDisk,
			fail:  func(t *testing.T, server *natsServer) { fill(t, server.store) },
			repair: func(t *testing.T, store string) {
				if err := os.Remove(filepath.Join(store, ballast)); err != nil {
					t.Fatal(err)
				}
			},
			reason: "NATS does not answer in time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, port := t.TempDir(), freePort(t)
			if tt.store != nil {
				store = tt.store(t)
			}
			server := startNATSWith(t, withTester(t, tt.limit), store, port)
			server.provision(t)
			all, shop := fleet(t, server, "ORDER_DEADLINE=60s")
			slow := demo.Scenarios()[0]
			slow.Token = "tok_slow"
			before, err := shop.Place(context.Background(), slow)
			if err != nil {
				t.Fatal(err)
			}
			if tt.fail != nil {
				tt.fail(t, server)
			}
			taken := append(refuses(t, shop, tt.reason), before)
			all[orders.Name].said(t, &all[orders.Name].stderr, tt.logged)
			if name != "Away" {
				if code := status(shop.URL + "/orders/" + before.ID); code != http.StatusOK {
					t.Errorf("an order cannot be read: status %d", code)
				}
				if tt.repair != nil {
					tt.repair(t, store)
				}
				server.stopNATS(t)
			}
			startNATSOn(t, store, port)
			for _, p := range all {
				p.said(t, &p.stderr, `msg="reconnected to NATS"`)
				p.ready(t)
			}
			concluded(t, shop, taken...)
			play(t, demo.Scenarios()[:3], shop.URL)
		})
	}
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

// smallDisk is a file system of its own, of 16 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here, which takes root and Linux: %v, %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return dir
}

const ballast = "ballast"

// fill fills the disk that dir is on, with a file named ballast.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, ballast))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// A Jaeger that refuses connections, or that never answers, delays neither orders nor the
// end of a service. The log has one line about it.
func TestJaegerAway(t *testing.T) {
	full.Only(t)
	t.Parallel()
	silent := listen(t)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			go func() { // reads, and never answers
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
			const n = 100
			var out systemtest.Output
			if err := load.Run(context.Background(), load.Options{URL: shop.URL, Orders: n, Concurrency: 8, Out: &out}); err != nil {
				t.Error(err)
			}
			systemtest.Until(t, "analytics has counted", func() bool {
				return systemtest.GetAnalytics(t, all[analytics.Name].url(t)).Orders.Shipped == n
			})
			// One line a minute, and one about the last spans.
			lost, left := regexp.MustCompile(`(?m)^.*telemetry export failed.*$`), regexp.MustCompile(`(?m)^.*last spans are lost.*$`)
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
					t.Errorf("%s logs %d times that its exporter fails, want 1 to %d: %q", name, len(told), most, told)
				}
				if end := left.FindAllString(p.stderr.String(), -1); len(end) > 1 {
					t.Errorf("%s logs %d times that its last spans are lost: %q", name, len(end), end)
				}
			}
		})
	}
}
