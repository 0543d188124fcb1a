package system_test

import (
	"context"
	"log/slog"
	"maps"
	"sync"
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
	var mu sync.Mutex
	effects := map[string]int{} // calls, of any kind, for each order
	world.Did = func(_ context.Context, effect, order string) error {
		mu.Lock()
		defer mu.Unlock()
		effects[effect+" "+order]++
		return nil
	}
	var connect func(...nats.Option) (*nats.Conn, error)
	sys := systemtest.Start(t, world.Use, systemtest.Deadline(soon), func(cfg *systemtest.Config) {
		connect = cfg.Connect
		cfg.Topology.LeaseTTL = time.Minute // a lease that is lost and won again would be an event
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	var playing sync.WaitGroup
	for _, sc := range demo.Scenarios() {
		playing.Go(func() {
			if err := systemtest.Play(ctx, sys.Shop, sc); err != nil {
				t.Errorf("%s: %v", sc.Name, err)
			}
		})
	}
	playing.Wait()
	before := systemtest.Settle(t, sys.JetStream(), len(demo.Scenarios()))
	mu.Lock()
	done := maps.Clone(effects)
	mu.Unlock()

	operator, err := svc.NewRuntime(ctx, svc.Config{Name: "replay", Connect: connect, Log: slog.DiscardHandler})
	if err != nil {
		t.Fatal(err)
	}
	result, err := analytics.Replay(ctx, operator)
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.Close(ctx); err != nil {
		t.Error(err)
	}
	if result.Events != before.Events() || len(result.Differences) > 0 {
		t.Errorf("%v, want %d events and no difference", result, before.Events())
	}

	// Anything that a replay caused would be in the stream, or pending for a consumer.
	after := systemtest.Settle(t, sys.JetStream(), len(demo.Scenarios()))
	if after.Last != before.Last {
		t.Errorf("the stream ends at %d, at %d before the replay", after.Last, before.Last)
	}
	mu.Lock()
	defer mu.Unlock()
	if !maps.Equal(effects, done) {
		t.Errorf("effects: %v, before the replay: %v", effects, done)
	}
	after.Audit(t, world)
}
