package systemtest_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/test/systemtest"
)

// connect opens a connection that reconnects as the services' do, but sooner.
func connect(t *testing.T, n *systemtest.Network, service string) *nats.Conn {
	t.Helper()
	nc, err := n.Connect(nats.Name("ordertrail "+service), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ErrorHandler(ignore))
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// ignore drops the errors of writes that a broken connection caused.
func ignore(*nats.Conn, *nats.Subscription, error) {}

// network returns a network whose Close the test's end calls.
func network(t *testing.T) *systemtest.Network {
	t.Helper()
	n := systemtest.NewNetwork(systemtest.Server(t).Connect)
	t.Cleanup(n.Close)
	return n
}

// subscribe subscribes to news, and waits until the server knows.
func subscribe(t *testing.T, nc *nats.Conn) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync("news")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// Cut loses what is on its way, and the client reconnects. Kill does so for good,
// and leaves other clients of the same service alone.
func TestCutAndKill(t *testing.T) {
	t.Parallel()
	n := network(t)
	victim, other, reader := connect(t, n, "a"), connect(t, n, "a"), connect(t, n, "b")
	news := subscribe(t, reader)
	next := func(want string) {
		t.Helper()
		if m, err := news.NextMsg(systemtest.Patience); err != nil || string(m.Data) != want {
			t.Errorf("received %v, %v, want %q", m, err, want)
		}
	}
	n.Client("a", 0).Pause() // the message must not leave before the cut
	if err := victim.Publish("news", []byte("lost")); err != nil {
		t.Fatal(err)
	}
	n.Client("a", 0).Cut()
	n.Client("a", 0).Resume()
	systemtest.Until(t, "the client is connected again", func() bool { return victim.Stats().Reconnects == 1 && victim.IsConnected() })
	if err := victim.Publish("news", []byte("after the cut")); err != nil {
		t.Fatal(err)
	}
	next("after the cut")

	n.Client("a", 0).Kill()
	n.Client("a", 0).Resume()
	_ = victim.Publish("news", []byte("lost")) // the connection may be known to be closed
	if err := other.Publish("news", []byte("from the other")); err != nil {
		t.Fatal(err)
	}
	next("from the other")
	systemtest.Until(t, "the killed client is disconnected", func() bool { return !victim.IsConnected() })
	if n := other.Stats().Reconnects; n > 0 {
		t.Errorf("the other client reconnected %d times", n)
	}
}

// A client that is killed in BeforeSend has not sent the message.
func TestBeforeSend(t *testing.T) {
	t.Parallel()
	n := network(t)
	n.BeforeSend = func(c *systemtest.Client, data []byte) {
		if c == n.Client("a", 0) && bytes.Contains(data, []byte("fatal")) {
			c.Kill()
		}
	}
	victim, other := connect(t, n, "a"), connect(t, n, "b")
	news := subscribe(t, other)
	if err := victim.Publish("news", []byte("fatal")); err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the client is dead", func() bool { return !victim.IsConnected() })
	if err := other.Publish("news", []byte("after")); err != nil {
		t.Fatal(err)
	}
	if m, err := news.NextMsg(systemtest.Patience); err != nil || string(m.Data) != "after" {
		t.Errorf("received %v, %v", m, err)
	}
}

// A paused client neither sends nor receives. After Resume everything arrives, in
// order, and the client did not reconnect.
func TestPause(t *testing.T) {
	t.Parallel()
	const messages, size = 100, 64 << 10 // more than connections buffer
	n := network(t)
	paused, other := connect(t, n, "a"), connect(t, n, "b")
	in, out := subscribe(t, paused), subscribe(t, other)
	n.Client("a", 0).Pause()
	for i := range messages {
		for from, nc := range map[string]*nats.Conn{"paused": paused, "other": other} {
			m := &nats.Msg{Subject: "news", Header: nats.Header{"From": {from}, "I": {fmt.Sprint(i)}}, Data: make([]byte, size)}
			if err := nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	receive := func(sub *nats.Subscription, n int) map[string][]string {
		got := map[string][]string{}
		for range n {
			m, err := sub.NextMsg(systemtest.Patience)
			if err != nil {
				t.Fatal(err)
			}
			got[m.Header.Get("From")] = append(got[m.Header.Get("From")], m.Header.Get("I"))
		}
		return got
	}
	got := receive(out, messages)
	if waiting, _, err := in.Pending(); waiting > 0 || err != nil || len(got["paused"]) > 0 {
		t.Errorf("while paused, the client received %d and sent %d messages: %v", waiting, len(got["paused"]), err)
	}
	n.Client("a", 0).Resume()
	late, both := receive(out, messages), receive(in, 2*messages)
	for _, all := range [][]string{late["paused"], both["paused"], both["other"]} {
		if !slices.Equal(all, got["other"]) {
			t.Errorf("after Resume the order is %v", all)
		}
	}
	if paused.Stats().Reconnects > 0 {
		t.Error("the client reconnected")
	}
}

// Close leaves no goroutine of any client, whatever happened to it before.
func TestNetworkClose(t *testing.T) {
	round := func() {
		server, err := embedded.Start("")
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		network := systemtest.NewNetwork(server.Connect)
		for i, harm := range [][]func(*systemtest.Client){
			{(*systemtest.Client).Pause, func(*systemtest.Client) { _ = server.Restart() }},
			{},
			{(*systemtest.Client).Cut},
			{(*systemtest.Client).Kill},
			{(*systemtest.Client).Pause},
			{(*systemtest.Client).Pause, (*systemtest.Client).Cut},
			{(*systemtest.Client).Pause, (*systemtest.Client).Kill},
		} {
			c := connect(t, network, fmt.Sprint(i))
			for _, f := range harm {
				f(network.Client(fmt.Sprint(i), 0))
				_ = c.Publish("x", make([]byte, 100_000))
			}
		}
		network.Close()
		if _, err := network.Connect(); err == nil {
			t.Error("a client connected to a closed network")
		}
	}
	round() // starts what a process starts once
	before := runtime.NumGoroutine()
	round()
	systemtest.Until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}
