package feed_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/feed"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
)

// smallBuffers makes the operating system buffer nearly nothing of what a connection
// sends, so that a client that does not read is noticed at once. It counts the bytes
// of the first connections.
type smallBuffers struct {
	net.Listener
	first int
	sent  *atomic.Int64
}

func (l *smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	if l.first--; l.first < 0 {
		return c, err
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

// A client that does not read delays no other client. Nothing piles up for it, and
// its feed ends soon.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const idle, messages = 8, 200
	var sequence atomic.Uint64
	sequence.Store(1)
	var serving sync.WaitGroup
	serving.Add(idle + 1)
	var hub feed.Hub
	opened := make(chan struct{}, idle+1)
	slow := feed.Feed{Hub: &hub, Slowest: 300 * time.Millisecond, Next: func(_ context.Context, since, _ uint64) ([]feed.Message, error) {
		if since == 0 {
			opened <- struct{}{}
		}
		return []feed.Message{{ID: sequence.Load(), Data: strings.Repeat("x", 50_000)}}, nil
	}}
	handler := respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		defer serving.Done()
		return slow.Serve(w, r)
	})
	publish := func() { hub.Notify("key", sequence.Add(1)) }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, &smallBuffers{listener, idle, &sent}, handler) }()
	defer func() {
		end()
		if err := <-served; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	}()
	var fast net.Conn
	for i := range idle + 1 {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if fast = c; i < idle {
			if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-opened
	}
	go func() {
		for sequence.Load() < messages {
			publish()
		}
	}()
	lines := bufio.NewScanner(fast)
	lines.Buffer(nil, 1<<20)
	last := fmt.Sprintf("id: %d", messages)
	for lines.Scan() && lines.Text() != last {
	}
	if lines.Err() != nil {
		t.Fatalf("the fast client's feed ended early: %v", lines.Err())
	}
	_ = fast.Close()
	publish() // the fast client's feed notices that its client has gone
	serving.Wait()
	if got := sent.Load(); got == 0 || got > idle*64<<10 {
		t.Errorf("%d bytes were sent to clients that do not read, want 64 KiB for each at most", got)
	}
}
