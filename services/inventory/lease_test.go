package inventory

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// patience bounds each test.
const patience = 20 * time.Second

// newReplicas returns a server with n replicas of inventory, which do not run yet, and a
// context that ends with the test's patience.
func newReplicas(t *testing.T, n int) (context.Context, *embedded.Server, []*service.Runtime) {
	t.Helper()
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	var all []*service.Runtime
	for range n {
		rt, err := service.NewRuntime(ctx, service.Config{Name: Name, Connect: func(opts ...nats.Option) (*nats.Conn, error) {
			return server.Connect(append(opts, nats.ReconnectWait(20*time.Millisecond))...)
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rt.Close(ctx) })
		all = append(all, rt)
	}
	if err := stream.Provision(ctx, all[0].Stream.JetStream(), stream.Topology{LeaseTTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	return ctx, server, all
}

// One replica leads at a time, for longer than the lease's TTL. It hands over when it
// stops, and its term ends when it loses the lease.
func TestLead(t *testing.T) {
	t.Parallel()
	ctx, _, replicas := newReplicas(t, 2)
	first, second := replicas[0], replicas[1]
	var leading atomic.Int32
	terms := make(chan string, 10)
	ended := make(chan error, 2)
	start := func(rt *service.Runtime) (stop context.CancelFunc) {
		ctx, stop := context.WithCancel(ctx)
		go func() {
			ended <- lead(ctx, rt, func(ctx context.Context) error {
				if leading.Add(1) > 1 {
					t.Error("two replicas lead at once")
				}
				defer leading.Add(-1)
				terms <- rt.Instance
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		return stop
	}
	next := func(want *service.Runtime, when string) {
		t.Helper()
		select {
		case got := <-terms:
			if got != want.Instance {
				t.Fatalf("%s leads %s, want %s", got, when, want.Instance)
			}
		case <-ctx.Done():
			t.Fatalf("no replica leads %s", when)
		}
	}
	stopFirst := start(first)
	defer stopFirst()
	next(first, "at the start")
	stopSecond := start(second)
	defer stopSecond()
	select {
	case got := <-terms:
		t.Fatalf("%s leads beside the first replica", got)
	case <-time.After(2500 * time.Millisecond): // two and a half times the TTL
	}
	stopFirst()
	next(second, "after the first has stopped")

	// A thief takes the lease: the term ends, and another begins when the thief's lease
	// has expired.
	kv, err := first.Stream.JetStream().KeyValue(ctx, stream.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, Name, []byte("thief")); err != nil {
		t.Fatal(err)
	}
	next(second, "after the thief")
	stopSecond()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A leader stops soon, also while NATS is away.
func TestLeadStopsWhileAway(t *testing.T) {
	t.Parallel()
	ctx, server, replicas := newReplicas(t, 1)
	ctx, cancel := context.WithCancel(ctx)
	leads, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		ended <- lead(ctx, replicas[0], func(ctx context.Context) error { leads <- true; <-ctx.Done(); return nil })
	}()
	<-leads
	server.Close()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(8 * time.Second): // the time that a service has to stop
		t.Error("lead does not return")
	}
}

// A replica that cannot ask for the lease is not ready, and neither is one that takes over.
// One that stands by is.
func TestLeadReady(t *testing.T) {
	t.Parallel()
	ctx, _, replicas := newReplicas(t, 2)
	js := replicas[0].Stream.JetStream()
	if err := js.DeleteKeyValue(ctx, stream.LeasesBucket); err != nil {
		t.Fatal(err)
	}
	takingOver, tookOver := make(chan *service.Runtime, 2), make(chan bool)
	for _, rt := range replicas {
		go func() {
			_ = lead(ctx, rt, func(ctx context.Context) error {
				takingOver <- rt
				<-tookOver
				rt.Stream.Duty(dutyWrite, nil)
				<-ctx.Done()
				return nil
			})
		}()
	}
	becomes := func(rt *service.Runtime, when, reason string) {
		t.Helper()
		var err error
		for ctx.Err() == nil {
			if err = rt.Ready(ctx); err == nil && reason == "" || err != nil && reason != "" && strings.Contains(err.Error(), reason) {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Fatalf("%s the readiness is %v, want %q", when, err, reason)
	}
	for _, rt := range replicas {
		becomes(rt, "without the bucket", "bucket LEASES is missing: run `ordertrail provision`")
	}
	if err := stream.Provision(ctx, js, stream.Topology{LeaseTTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	writer := <-takingOver
	becomes(writer, "during the takeover", "taking over")
	for _, rt := range replicas {
		if rt != writer {
			becomes(rt, "while standing by", "")
		}
	}
	close(tookOver)
	becomes(writer, "after the takeover", "")
}

// Restock does not take the place of a product's first stock.
func TestRestock(t *testing.T) {
	t.Parallel()
	ctx, _, replicas := newReplicas(t, 1)
	c := replicas[0].Stream
	early, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := Restock(early, c, "COMPASS", 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the first stock: %v", err)
	}
	seed := event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: "COMPASS", Quantity: 1}}
	if _, err := c.PublishOnce(ctx, seed, stream.Alone(event.StockAdded, "COMPASS")); err != nil {
		t.Fatal(err)
	}
	for _, units := range []int{-1, 0, event.MaxQuantity + 1, math.MaxInt} {
		if err := Restock(ctx, c, "COMPASS", units); err == nil {
			t.Errorf("%d units were added", units)
		}
	}
	for range 2 {
		if err := Restock(ctx, c, "COMPASS", 5); err != nil {
			t.Error(err)
		}
	}
	last, err := c.LastSequence(ctx)
	if err != nil || last != 3 {
		t.Errorf("%d messages are stored (%v), want the first stock and two more", last, err)
	}
}
