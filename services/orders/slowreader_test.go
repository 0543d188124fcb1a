package orders_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// smallBuffers has the system keep nearly nothing of what a connection is sent, so
// that who does not read is noticed at once. It counts what is sent.
type smallBuffers struct {
	net.Listener
	sent *atomic.Int64
}

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return counted{c, l.sent}, err
}

type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// feeds is how many feeds are being served.
func feeds(tb testing.TB) int {
	tb.Helper()
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		tb.Fatal(err)
	}
	return strings.Count(stacks.String(), "(*orders).feed(")
}

// A reader that does not read holds up nobody: others get the news, nothing piles up
// for it, and soon it is let go. (Not parallel: it counts what runs.)
func TestSlowReader(t *testing.T) {
	const slowest = 2 * time.Second
	sys := systemtest.Start(t, func(cfg *app.Config) {
		cfg.Wire = map[string]service.Wire{orders.Name: orders.Impatient(slowest)}
	})
	s := &shop{url: sys.URL, client: sys.Shop.Client}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- service.Serve(ctx, smallBuffers{listener, &sent}, sys.Replica(orders.Name, 0).HTTP())
	}()
	defer func() {
		end()
		if err := <-served; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	}()

	const idle = 8
	var slow [idle]net.Conn
	for i := range slow {
		if slow[i], err = net.Dial("tcp", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = slow[i].Close() }()
		if err := slow[i].(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(slow[i], "GET /events HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	fast := follow(t, sys.URL+"/events", "")
	systemtest.Until(t, "all feeds are served", func() bool { return feeds(t) == idle+1 })
	for _, a := range s.MustDoAll(t, 200, func(int) (string, string, string, http.Header) {
		return http.MethodPost, "/orders", body(nil), jsonHeader()
	}) {
		wantStatus(t, a, http.StatusAccepted)
	}
	for change := (struct{ Shop struct{ Placed, Shipped int } }{}); change.Shop.Shipped < 200; {
		if _, ok := fast.next(t, &change); !ok {
			t.Fatalf("the feed ended when %d orders were shipped, of %d", change.Shop.Shipped, change.Shop.Placed)
		}
	}
	systemtest.Until(t, "who does not read is let go", func() bool { return feeds(t) == 1 })
	if got := sent.Load(); got == 0 || got > idle*64<<10 {
		t.Errorf("%d bytes were sent, want what the system keeps of a connection: 64 KiB for each at most", got)
	}
	fast.leave()
	systemtest.Until(t, "no feed is left", func() bool { return feeds(t) == 0 })
}
