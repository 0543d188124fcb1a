package system_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

// connector connects to a test's server.
type connector = func(...nats.Option) (*nats.Conn, error)

// provisionUpTo provisions through a connection that breaks for ever when it is about
// to send its n-th request (from 0) to JetStream, or just after. It reports whether
// provisioning ended before that.
func provisionUpTo(t *testing.T, connect connector, n int64, sent bool, topology stream.Topology) (finished bool) {
	t.Helper()
	network := systemtest.NewNetwork(connect)
	defer network.Close()
	var requests atomic.Int64
	broken, breaks := context.WithCancel(context.Background())
	defer breaks()
	network.BeforeSend = func(c *systemtest.Client, data []byte) {
		if !bytes.Contains(data, []byte("PUB $JS.API.")) || requests.Add(1) <= n {
			return
		}
		if !sent {
			c.Cut()
		}
		breaks()
	}
	nc, err := network.Connect(nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(broken, systemtest.Patience)
	defer cancel()
	err = stream.Provision(ctx, js, topology)
	if err != nil && broken.Err() == nil {
		t.Fatalf("provision: %v", err)
	}
	return err == nil && broken.Err() == nil
}

// complete provisions again, and checks that everything is there: an order is shipped.
func complete(t *testing.T, connect connector, topology stream.Topology) {
	t.Helper()
	nc, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	for range 2 { // the second time, nothing is left to do
		var failed error
		systemtest.Until(t, "the streams are provisioned", func() bool {
			attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			failed = stream.Provision(attempt, js, topology)
			return failed == nil || ctx.Err() != nil
		})
		if failed != nil {
			t.Fatal(failed)
		}
	}
	for name, check := range map[string]func(jetstream.StreamConfig) bool{
		stream.OrdersStream: func(c jetstream.StreamConfig) bool {
			return c.Discard == jetstream.DiscardNew && c.DenyDelete && c.DenyPurge && c.AllowDirect
		},
		stream.DeadlinesStream: func(c jetstream.StreamConfig) bool { return c.AllowMsgSchedules && c.MaxAge > 0 },
		stream.MailsStream: func(c jetstream.StreamConfig) bool {
			return c.AllowMsgSchedules && c.Retention == jetstream.WorkQueuePolicy && c.MaxAge == 0
		},
		stream.DeadLettersStream:       func(c jetstream.StreamConfig) bool { return c.Discard == jetstream.DiscardNew && c.AllowDirect },
		"KV_" + stream.LeasesBucket:    func(c jetstream.StreamConfig) bool { return c.MaxAge > 0 },
		"KV_" + stream.AnalyticsBucket: func(c jetstream.StreamConfig) bool { return c.MaxMsgsPerSubject == 1 },
		"KV_" + stream.StockBucket:     func(c jetstream.StreamConfig) bool { return c.MaxMsgsPerSubject == 1 },
	} {
		var s jetstream.Stream
		answered(t, "stream "+name, func(ctx context.Context) (err error) { s, err = js.Stream(ctx, name); return err })
		if cfg := s.CachedInfo().Config; !check(cfg) || cfg.Replicas != max(topology.Replicas, 1) {
			t.Errorf("stream %s has the configuration %+v", name, cfg)
		}
	}
	for _, d := range app.Durables() {
		answered(t, "consumer "+d.Name, func(ctx context.Context) error { _, err := js.Consumer(ctx, d.Stream, d.Name); return err })
	}
	id := event.NewOrderID()
	answered(t, "publish", func(ctx context.Context) error {
		_, err := js.Publish(ctx, event.OrderCreated.Subject(id), nil, jetstream.WithExpectLastSequenceForSubject(0, "orders.*."+id), jetstream.WithMsgID(id))
		return err
	})
}

// answered repeats a request while the servers, which were crashed, choose their leaders.
// Some requests get no answer meanwhile.
func answered(t *testing.T, what string, request func(context.Context) error) {
	t.Helper()
	var err error
	systemtest.Until(t, what+" is answered", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err = request(ctx)
		var refused *jetstream.APIError
		return err == nil || errors.As(err, &refused) && refused.Code != http.StatusServiceUnavailable
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Provisioning that is killed at any step is completed by the next one, even if the
// server is killed with it: it starts again on what is on its disk at that moment.
func TestProvisionAfterACrash(t *testing.T) {
	t.Parallel()
	topology := stream.Topology{Durables: app.Durables()}
	for name, sent := range map[string]bool{"before a request": false, "after a request": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := int64(0); ; n++ {
				store := systemtest.NewStore(t)
				finished := provisionUpTo(t, store.Connect, n, sent, topology)
				killed := systemtest.NewStore(t)
				killed.Change(t, func(dir string) {
					if err := systemtest.CopyLive(dir, store.Dir); err != nil {
						t.Fatal(err)
					}
				})
				complete(t, store.Connect, topology)
				complete(t, killed.Connect, topology)
				if finished {
					t.Logf("there are %d steps", n)
					break
				}
			}
		})
	}
}

// So on three servers, which are all killed.
func TestProvisionAfterACrashOfThree(t *testing.T)       { full.Only(t); crashThree(t, 13) }
func TestStressProvisionAfterACrashOfThree(t *testing.T) { chaosplan.StressOnly(t); crashThree(t, 1) }

// crashThree crashes the cluster at every so many steps of provisioning.
func crashThree(t *testing.T, every int64) {
	t.Parallel()
	cluster, err := systemtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	topology := stream.Topology{Replicas: 3, Durables: app.Durables()}
	for n := int64(1); ; n += every {
		finished := provisionUpTo(t, cluster.Connect, n, true, topology)
		if err := cluster.Crash(); err != nil {
			t.Fatal(err)
		}
		complete(t, cluster.Connect, topology)
		if finished {
			break
		}
		deleteAll(t, cluster.Connect)
	}
}

// deleteAll deletes all streams.
func deleteAll(t *testing.T, connect connector) {
	t.Helper()
	nc, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "no stream is left", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		names := js.StreamNames(ctx)
		left := 0
		for name := range names.Name() {
			left++
			_ = js.DeleteStream(ctx, name)
		}
		return left == 0 && names.Err() == nil
	})
}
