package stream_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// Provision corrects the streams, consumers and buckets that exist and reports what it changed. The limits of
// an operator stay, except where the server would drop messages to keep them.
func TestProvisionCorrects(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const limit = 1 << 20
	for name, change := range map[string]func(*jetstream.StreamConfig){
		stream.OrdersStream:      func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, limit },
		stream.DeadLettersStream: func(c *jetstream.StreamConfig) { c.Discard, c.AllowDirect = jetstream.DiscardOld, false },
		stream.DeadlinesStream:   func(c *jetstream.StreamConfig) { c.MaxBytes = limit },
		stream.MailsStream:       func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"KV_LEASES":              func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Minute, time.Minute },
	} {
		s, err := b.JetStream().Stream(b.ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		change(&cfg)
		if _, err := b.JetStream().UpdateStream(b.ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	cfg.FilterSubjects, cfg.MaxDeliver = []string{"orders.cancelled.*"}, 3
	if _, err := b.JetStream().UpdateConsumer(b.ctx, stream.OrdersStream, cfg); err != nil {
		t.Fatal(err)
	}
	var reported []string
	topology := stream.Topology{AckWait: 500 * time.Millisecond, LeaseTTL: time.Second, Durables: []stream.Durable{handledBy(nil)}, Report: func(change string) { reported = append(reported, change) }}
	topology.Warn = topology.Report // there is no cluster
	provision := func() {
		t.Helper()
		if err := stream.Provision(b.ctx, b.JetStream(), topology); err != nil {
			t.Fatal(err)
		}
	}
	provision()
	want := []string{
		`stream ORDERS: discard was "old", is "new"`,
		"stream DEADLINES: max_bytes was 1048576, is -1",
		"stream MAILS: max_age was 3600000000000, is 0",
		"stream DEADLETTERS: allow_direct was false, is true",
		`stream DEADLETTERS: discard was "old", is "new"`,
		`consumer tester: filter_subjects was ["orders.cancelled.*"], is ["orders.created.*","redrive.tester.>"]`,
		"consumer tester: max_deliver was 3, is -1",
		"bucket LEASES: duplicate_window was 60000000000, is 1000000000",
		"bucket LEASES: max_age was 60000000000, is 1000000000",
	}
	if !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q", reported, want)
	}
	s, err := b.JetStream().Stream(b.ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	if cfg := s.CachedInfo().Config; cfg.Discard != jetstream.DiscardNew || cfg.MaxBytes != limit {
		t.Errorf("ORDERS has the discard policy %v and the limit %d", cfg.Discard, cfg.MaxBytes)
	}
	reported = nil
	provision()
	if len(reported) > 0 {
		t.Errorf("a second run reported %q", reported)
	}
}

// Without a number of replicas, Provision keeps the number and the placement of what
// exists. Otherwise an operator who repeats it without the setting would lose two of three copies.
// It warns of one replica on a cluster, unless the setting asks for that.
func TestProvisionKeepsReplicas(t *testing.T) {
	t.Parallel()
	cluster, err := systemtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	nc, err := cluster.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	names := []string{stream.OrdersStream, stream.DeadlinesStream, stream.MailsStream, stream.DeadLettersStream, "KV_LEASES", "KV_ANALYTICS", "KV_STOCK"}
	var warnings []string
	provision := func(replicas int) {
		t.Helper()
		warnings = nil
		warn := func(warning string) { warnings = append(warnings, warning) }
		if err := stream.Provision(ctx, js, stream.Topology{Replicas: replicas, Durables: []stream.Durable{handledBy(nil)}, Warn: warn}); err != nil {
			t.Fatal(err)
		}
	}
	provision(3)
	for _, name := range names {
		s, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.Placement = &jetstream.Placement{Cluster: s.CachedInfo().Cluster.Name}
		// Not an update, after which the stream moves for a while.
		if err := js.DeleteStream(ctx, name); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ set, want, warnings int }{{0, 3, 0}, {1, 1, 0}, {0, 1, 1}} {
		provision(step.set)
		if len(warnings) != step.warnings || step.warnings > 0 && !strings.Contains(warnings[0], "set STREAM_REPLICAS=3") {
			t.Errorf("provisioned with %d replicas: warnings %q, want %d", step.set, warnings, step.warnings)
		}
		for _, name := range names {
			s, err := js.Stream(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if cfg := s.CachedInfo().Config; cfg.Replicas != step.want || cfg.Placement == nil {
				t.Errorf("%s has %d replicas and the placement %v, want %d and the operator's", name, cfg.Replicas, cfg.Placement, step.want)
			}
		}
	}
}
