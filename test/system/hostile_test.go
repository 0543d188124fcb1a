package system_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

const (
	hostileClients = 3 // addresses; more of them could take all connections that the shop accepts
	normalOrders   = 200
	normalAtOnce   = 4

	// Bounds on the memory that the process grows by, which includes the clients and NATS:
	// for the normal orders, and for both ends of a hostile connection.
	ordersMemory, connectionMemory = 128 << 20, 96 << 10
)

// hostile are ways to harm an HTTP server with one connection until ctx ends. The server
// may close the connection at any time.
var hostile = []struct {
	name string
	harm func(ctx context.Context, t *testing.T, c net.Conn)
}{
	{"slow reader", func(ctx context.Context, _ *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, strings.Repeat("GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n", 40))
		<-ctx.Done()
	}},
	{"slow writer", func(ctx context.Context, _ *testing.T, c net.Conn) {
		_, err := io.WriteString(c, "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{")
		for tick := time.NewTicker(200 * time.Millisecond); err == nil; _, err = io.WriteString(c, " ") {
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}},
	{"half-open connection", func(_ context.Context, _ *testing.T, c net.Conn) { _, _ = io.Copy(io.Discard, c) }},
	{"half a header", func(_ context.Context, _ *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: local")
		_, _ = io.Copy(io.Discard, c)
	}},
	{"pipelining", func(_ context.Context, _ *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, strings.Repeat("GET /catalog HTTP/1.1\r\nHost: localhost\r\n\r\n", 50))
		_, _ = io.Copy(io.Discard, c)
	}},
	{"wrong host", func(_ context.Context, t *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, "GET /orders HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n")
		if answer, _ := io.ReadAll(c); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 421 ") {
			t.Errorf("a request to another host is answered: %.100s", answer)
		}
	}},
}

// attack makes so many connections in all, so many at a time, and holds each for a while if
// the server lets it. It counts those that were
// opened, and ends early if ctx does.
func attack(ctx context.Context, t *testing.T, address string, total, atOnce int, hold time.Duration, opened *atomic.Int64) {
	var next atomic.Int64
	var attacking sync.WaitGroup
	for range atOnce {
		attacking.Go(func() {
			for n := next.Add(1); n <= int64(total) && ctx.Err() == nil; n = next.Add(1) {
				from := net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%hostileClients))}
				ctx, cancel := context.WithTimeout(ctx, hold)
				c, err := (&net.Dialer{LocalAddr: &from}).DialContext(ctx, "tcp", address)
				if err == nil {
					opened.Add(1)
					stop := context.AfterFunc(ctx, func() { _ = c.Close() })
					hostile[n%int64(len(hostile))].harm(ctx, t, c)
					stop()
					_ = c.Close()
				}
				cancel()
			}
		})
	}
	attacking.Wait()
}

// stall sends requests and reads no answer. The channel is closed when the server has
// closed the connection.
func stall(t *testing.T, address string) <-chan struct{} {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10) // or the operating system would take all answers
	const request = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n"
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, err := io.WriteString(c, strings.Repeat(request, 4000))
		for tick := time.NewTicker(200 * time.Millisecond); err == nil; _, err = io.WriteString(c, request) {
			<-tick.C
		}
	}()
	return closed
}

// customers place orders until n are shipped and more returns false, and return the p99 of
// the time from an order to its parcel. They repeat requests that the shop rejects.
func customers(t *testing.T, shop demo.Shop, n int, more func() bool) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*systemtest.Patience)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var left atomic.Int64
	left.Store(int64(n))
	var ordering sync.WaitGroup
	for range normalAtOnce {
		ordering.Go(func() {
			for left.Add(-1) >= 0 || more() {
				began := time.Now()
				order, err := shop.Place(ctx, demo.Scenarios()[0])
				for err != nil && ctx.Err() == nil {
					order, err = shop.Place(ctx, demo.Scenarios()[0])
				}
				if err == nil {
					order, err = shop.Await(ctx, order.ID, orders.Order.Concluded)
				}
				if err != nil || order.State != orders.StateShipped {
					t.Errorf("a normal order is %q: %v", order.State, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	ordering.Wait()
	if len(took) < n {
		t.Fatalf("%d of %d normal orders were shipped", len(took), n)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// memory returns the memory that the process has of the operating system, in bytes.
func memory() int64 {
	of := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(of)
	return int64(of[0].Value.Uint64() - of[1].Value.Uint64())
}

// testHostile runs customers without, then beside hostile clients. It returns the p99 of
// both.
func testHostile(t *testing.T, total, atOnce int, hold time.Duration) (quiet, attacked time.Duration) {
	t.Helper()
	// Nothing keeps the spans, whose memory would hide that of the attack.
	sys, err := systemtest.Run(systemtest.Context(t), systemtest.Config{Connect: systemtest.Server(t).Connect, NoTrail: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := app.StopTimeout(context.Background())
		defer cancel()
		if err := sys.Stop(ctx); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	shop := demo.Shop{URL: sys.URL, Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: normalAtOnce}}}
	t.Cleanup(shop.Client.CloseIdleConnections)
	// It comes first, because the server waits 20 seconds for it.
	stalled := stall(t, strings.TrimPrefix(sys.URL, "http://"))
	customers(t, shop, normalOrders/4, func() bool { return false }) // warm up
	quiet = customers(t, shop, normalOrders, func() bool { return false })

	ctx, end := context.WithTimeout(context.Background(), 3*systemtest.Patience)
	defer end()
	before := memory()
	var opened, most atomic.Int64
	var running sync.WaitGroup
	running.Go(func() { attack(ctx, t, strings.TrimPrefix(sys.URL, "http://"), total, atOnce, hold, &opened); end() })
	running.Go(func() {
		for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			most.Store(max(most.Load(), memory()-before))
		}
	})
	systemtest.Until(t, "the attack has begun", func() bool { return opened.Load() >= int64(atOnce/2) })
	attacked = customers(t, shop, normalOrders, func() bool { return ctx.Err() == nil })
	running.Wait()
	select {
	case <-stalled:
	case <-time.After(25 * time.Second):
		t.Error("a client that reads no answer keeps its connection")
	}
	if got := opened.Load(); got < int64(total)*9/10 {
		t.Errorf("%d hostile connections were opened, want %d", got, total)
	}
	if got, bound := most.Load(), int64(ordersMemory+atOnce*connectionMemory); got > bound {
		t.Errorf("the memory grew by %d MB, want %d at most", got>>20, bound>>20)
	}
	t.Logf("%d hostile connections, %d at a time: p99 %v, without them %v (%.1f times); memory grew from %d MB by %d MB",
		opened.Load(), atOnce, attacked, quiet, float64(attacked)/float64(quiet), before>>20, most.Load()>>20)
	return quiet, attacked
}

// Hostile clients keep no normal order from its parcel, and take bounded memory.
func TestHostileClients(t *testing.T) { full.Only(t); testHostile(t, 1000, 300, 3*time.Second) }

// With ten times as many, normal orders also take at most three times as long.
func TestStressHostileClients(t *testing.T) {
	chaosplan.StressOnly(t)
	quiet, attacked := testHostile(t, 10_000, 3000, 20*time.Second) // longer than every timeout of a request
	if attacked > 3*quiet {
		t.Errorf("p99 = %v, want 3 times %v at most", attacked, quiet)
	}
}
