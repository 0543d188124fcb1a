package stream_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/stream"
)

// Provision corrects the streams that exist and reports what it changed. The limits of
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
	var reported []string
	topology := stream.Topology{Report: func(change string) { reported = append(reported, change) }}
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
