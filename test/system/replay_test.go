package system_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/demo"
	svc "example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// A replay only counts: it causes no mail, charge, parcel or event.
func TestReplayHasNoEffect(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	var effects atomic.Int64
	world.Did = func(context.Context, string, string) error { effects.Add(1); return nil }
	var connect func(...nats.Option) (*nats.Conn, error)
	sys := systemtest.Start(t, world.Use, func(cfg *systemtest.Config) {
		connect = cfg.Connect
		cfg.Topology.LeaseTTL = time.Minute // a lease that is lost and won again would be an event
	})
	for _, name := range []string{"happy", "undeliverable"} {
		if _, err := demo.Play(t.Context(), sys.Shop, systemtest.Scenario(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := systemtest.Settle(t, sys.JetStream(), 2)
	done := effects.Load()

	operator, err := svc.NewRuntime(t.Context(), svc.Config{Name: "replay", Connect: connect, Log: slog.DiscardHandler})
	if err != nil {
		t.Fatal(err)
	}
	result, err := analytics.Replay(t.Context(), operator)
	if err != nil || result.Events != before.Events() || len(result.Differences) > 0 {
		t.Errorf("%v, %v, want %d events and no difference", result, err, before.Events())
	}
	if err := operator.Close(t.Context()); err != nil {
		t.Error(err)
	}

	// Anything that a replay caused would be in the stream, or pending for a consumer.
	after := systemtest.Settle(t, sys.JetStream(), 2)
	if after.Last != before.Last {
		t.Errorf("the stream ends at %d, at %d before the replay", after.Last, before.Last)
	}
	if got := effects.Load(); got != done {
		t.Errorf("%d effects outside, %d before the replay", got, done)
	}
}
