package systemtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// What was under way when the connection broke is lost; what was acknowledged is
// not, and the client goes on.
func TestCut(t *testing.T) {
	t.Parallel()
	network := MustNetwork(t, systemtest.Server(t).Connect)
	var attempts atomic.Int32
	c := MustConnect(t, network, "a", nats.ReconnectErrHandler(func(*nats.Conn, error) { attempts.Add(1) }))
	MustStream(t, c, 1)
	MustPublish(t, c, "s.acknowledged")

	victim := network.Client("a", 0)
	victim.Pause() // or it might be flushed before the cut
	if err := c.Publish("s.buffered", nil); err != nil {
		t.Fatal(err)
	}
	victim.Cut()
	systemtest.Until(t, "the client has tried to come back while paused", func() bool { return attempts.Load() > 0 })
	victim.Resume()
	systemtest.Until(t, "the client is connected again", func() bool { return c.Stats().Reconnects == 1 && c.IsConnected() })
	MustPublish(t, c, "s.after")
	if got, want := Subjects(t, c), []string{"s.acknowledged", "s.after"}; !slices.Equal(got, want) {
		t.Errorf("the stream has %q, want %q", got, want)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	network := MustNetwork(t, systemtest.Server(t).Connect)
	var attempts atomic.Int32
	dead := MustConnect(t, network, "a", nats.ReconnectErrHandler(func(*nats.Conn, error) { attempts.Add(1) }))
	other, asker := MustConnect(t, network, "a"), MustConnect(t, network, "b")
	if _, err := dead.Subscribe("alive", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := dead.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := asker.Request("alive", nil, systemtest.Patience); err != nil {
		t.Fatal(err)
	}

	network.Client("a", 0).Kill()
	systemtest.Until(t, "the server knows", func() bool {
		_, err := asker.Request("alive", nil, 100*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	})
	network.Client("a", 0).Resume()
	systemtest.Until(t, "the client has tried to come back", func() bool { return attempts.Load() > 3 })
	if dead.IsConnected() {
		t.Error("the killed client is connected")
	}
	if err := other.Flush(); err != nil || other.Stats().Reconnects > 0 {
		t.Errorf("another client of the service was harmed: %v", err)
	}
}

// What a paused client sends and is sent arrives later, all of it, and in order.
func TestPause(t *testing.T) {
	t.Parallel()
	const n, size = 100, 64 << 10 // more than connections buffer
	network := MustNetwork(t, systemtest.Server(t).Connect)
	held := make(chan struct{}, 1)
	network.BeforeSend = func(c *systemtest.Client, data []byte) {
		if bytes.Contains(data, []byte("hold this")) {
			c.Pause()
			held <- struct{}{}
		}
	}
	paused, other := MustConnect(t, network, "a"), MustConnect(t, network, "b")
	MustStream(t, other, 1)
	sub, err := paused.SubscribeSync("news")
	if err != nil {
		t.Fatal(err)
	}
	if err := paused.Flush(); err != nil {
		t.Fatal(err)
	}

	victim := network.Client("a", 0)
	victim.Pause()
	var want []string
	for i := range n {
		if err := paused.Publish(fmt.Sprintf("s.late%d", i), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := other.PublishMsg(&nats.Msg{Subject: "news", Header: nats.Header{"I": {fmt.Sprint(i)}}, Data: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		MustPublish(t, other, "s.soon")
		want = append(want, "s.soon")
	}
	if got := Subjects(t, other); !slices.Equal(got, want) {
		t.Errorf("while paused, the stream has %q", got)
	}
	if got, _, err := sub.Pending(); got > 0 || err != nil {
		t.Errorf("while paused, the client was delivered %d messages: %v", got, err)
	}

	victim.Resume()
	for i := range n {
		want = append(want, fmt.Sprintf("s.late%d", i))
		m, err := sub.NextMsg(systemtest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("I") != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, m.Header.Get("I"))
		}
	}
	systemtest.Until(t, "all that was held up is stored", func() bool { return len(Subjects(t, other)) >= len(want) })
	if got := Subjects(t, other); !slices.Equal(got, want) {
		t.Errorf("the stream has %q", got)
	}

	// Resume alone sets it going, no later traffic.
	for range n {
		if err := paused.Publish("news", []byte("hold this")); err != nil { // to itself
			t.Fatal(err)
		}
		<-held
		victim.Resume()
		if _, err := sub.NextMsg(systemtest.Patience); err != nil {
			t.Fatal(err)
		}
	}
	if paused.Stats().Reconnects > 0 {
		t.Error("the client noticed")
	}
}

// A client that dies as it sends has not sent.
func TestBeforeSend(t *testing.T) {
	t.Parallel()
	network := MustNetwork(t, systemtest.Server(t).Connect)
	network.BeforeSend = func(c *systemtest.Client, data []byte) {
		if c == network.Client("a", 0) && bytes.Contains(data, []byte("s.fatal")) {
			c.Kill()
		}
	}
	victim, other := MustConnect(t, network, "a"), MustConnect(t, network, "b")
	MustStream(t, other, 1)
	MustPublish(t, victim, "s.before")
	if err := victim.Publish("s.fatal", nil); err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the client is dead", func() bool { return !victim.IsConnected() })
	MustPublish(t, other, "s.after")
	if got, want := Subjects(t, other), []string{"s.before", "s.after"}; !slices.Equal(got, want) {
		t.Errorf("the stream has %q, want %q", got, want)
	}
}

// A restart keeps the stream, and everyone goes on.
func TestRestart(t *testing.T) {
	t.Parallel()
	const rounds, n = 3, 50
	server := systemtest.Server(t)
	network := MustNetwork(t, server.Connect)
	publisher, worker, follower := MustConnect(t, network, "a"), MustConnect(t, network, "b"), MustConnect(t, network, "c")
	ctx := t.Context()
	s := MustStream(t, publisher, 1)
	if _, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second}); err != nil {
		t.Fatal(err)
	}
	durable, err := worker.js.Consumer(ctx, "S", "worker")
	if err != nil {
		t.Fatal(err)
	}
	worked := Sequences(t, durable)
	ordered, err := follower.js.OrderedConsumer(ctx, "S", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	followed := Sequences(t, ordered)

	var all []uint64
	for round := range rounds {
		if round > 0 {
			begin := time.Now()
			if err := server.Restart(); err != nil {
				t.Fatal(err)
			}
			t.Logf("restarted in %v", time.Since(begin))
		}
		for range n {
			MustPublish(t, publisher, "s.x")
			all = append(all, uint64(len(all)+1))
		}
	}
	if got := len(Subjects(t, publisher)); got != len(all) {
		t.Errorf("%d messages are stored, want %d", got, len(all))
	}
	systemtest.Until(t, "the ordered consumer has everything", func() bool { return len(followed()) >= len(all) })
	if got := followed(); !slices.Equal(got, all) {
		t.Errorf("the ordered consumer got %d, want each of %d, in order", got, len(all))
	}
	systemtest.Until(t, "the durable has delivered everything", func() bool {
		got := worked()
		slices.Sort(got)
		return slices.Equal(slices.Compact(got), all)
	})
}

// A cluster goes on without one node, and the node, once back, has what it missed.
func TestClusterNode(t *testing.T) {
	t.Parallel()
	cluster, err := embedded.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	network := MustNetwork(t, cluster.Connect)
	c := MustConnect(t, network, "a")
	MustStream(t, c, cluster.Size())
	const n = 100
	var want []string
	publish := func(subject string) {
		for range n {
			MustPublish(t, c, subject)
			want = append(want, subject)
		}
	}
	publish("s.before")

	victim := int(c.ConnectedServerName()[1] - '1') // n1 is 0
	cluster.Stop(victim)
	if cluster.Whole() {
		t.Error("a cluster that lacks a node says it is whole")
	}
	publish("s.without")
	if c.Stats().Reconnects == 0 {
		t.Error("the client did not move")
	}
	begin := time.Now()
	if err := cluster.Start(victim); err != nil {
		t.Fatal(err)
	}
	if cluster.Start(victim) == nil {
		t.Error("a node was started twice")
	}
	systemtest.Until(t, "the cluster is whole", cluster.Whole)
	t.Logf("whole after %v", time.Since(begin))
	for i := range cluster.Size() {
		if i != victim {
			cluster.Stop(i)
		}
	}
	// Only the victim is left to answer.
	if got := Subjects(t, c); !slices.Equal(got, want) {
		t.Errorf("the node that came back has %d messages, want %d", len(got), len(want))
	}
}

// Nothing is left of clients, in whatever state they end.
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
			c, err := network.Connect(nats.Name(fmt.Sprint(i)), nats.MaxReconnects(-1), nats.ErrorHandler(ignore))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range harm {
				f(network.Client(fmt.Sprint(i), 0))
				_ = c.Publish("x", make([]byte, 100_000))
			}
		}
		network.Close()
		if _, err := network.Connect(); err == nil {
			t.Error("a client connected to a network that is closed")
		}
	}
	round() // what a process starts once is there now
	before := runtime.NumGoroutine()
	round()
	systemtest.Until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// The services' replicas are the network's clients; a restart, cuts and a death do
// the orders no harm.
func TestNetworkSystem(t *testing.T) {
	t.Parallel()
	server := systemtest.Server(t)
	network := MustNetwork(t, server.Connect)
	world := systemtest.NewWorld()
	sys := systemtest.StartOn(t, network.Connect, world.Use, func(cfg *app.Config) {
		cfg.Replicas = map[string]int{payments.Name: 2}
		cfg.Topology.AckWait = time.Second
	})
	play := func() {
		ctx, cancel := context.WithTimeout(t.Context(), systemtest.Patience)
		defer cancel()
		if _, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0]); err != nil {
			t.Error(err)
		}
	}
	play()
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	network.Client(payments.Name, 0).Kill()
	sys.Replica(payments.Name, 0).Kill()
	network.Client(payments.Name, 1).Cut()
	if network.Client(payments.Name, 2) != nil {
		t.Error("payments has three clients, want two")
	}
	play()
	systemtest.Settle(t, sys.JetStream(), 2).Audit(t, world)
}
