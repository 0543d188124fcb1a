package system_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/test/systemtest"
)

// discard takes spans as a fast exporter would.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// BenchmarkFlow measures whole orders: from the HTTP request to the parcel,
// through all six services, on an embedded server with a file store.
//
// Each customer orders again when their parcel is on its way: "busy" has 128 of
// them, "idle" one. Both report orders/s, and how long it took from created to
// shipped by the stream's own clock.
//
// Spans go to an exporter that discards them; "trail" also keeps them in the trail's
// store, as the demo does.
func BenchmarkFlow(b *testing.B) {
	for _, tracing := range []struct {
		name  string
		env   map[string]string
		trail bool
	}{
		{"untraced", map[string]string{"OTEL_SDK_DISABLED": "true"}, false},
		{"traced", nil, false},
		{"trail", nil, true},
		{"sampled=1%", map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}, false},
	} {
		for _, load := range []struct {
			name      string
			customers int
		}{{"busy", 128}, {"idle", 1}} {
			b.Run(tracing.name+"/"+load.name, func(b *testing.B) {
				for k, v := range tracing.env {
					b.Setenv(k, v)
				}
				benchmarkFlow(b, load.customers, tracing.trail)
			})
		}
	}
}

func benchmarkFlow(b *testing.B, customers int, trail bool) {
	sys := systemtest.Start(b, func(cfg *systemtest.Config) {
		cfg.NoTrail = !trail
		cfg.Tracing = func(string) []telemetry.Option {
			return []telemetry.Option{telemetry.WithSpanProcessor(sdktrace.NewBatchSpanProcessor(discard{}))}
		}
	})
	parcels := follow(b, sys)
	ctx := context.Background()
	everything := demo.Scenarios()[0]
	warm, err := demo.Play(ctx, sys.Shop, everything)
	if err != nil {
		b.Fatal(err)
	}
	parcels.await(b, warm.ID)

	b.ResetTimer()
	orders := make(chan struct{})
	var busy sync.WaitGroup
	for range customers {
		busy.Go(func() {
			for range orders {
				order, err := sys.Shop.Place(ctx, everything)
				if err != nil {
					b.Error(err)
				} else {
					parcels.await(b, order.ID)
				}
			}
		})
	}
	for range b.N {
		orders <- struct{}{}
	}
	close(orders)
	busy.Wait()
	b.StopTimer()

	parcels.mu.Lock()
	took := parcels.took[1:]
	parcels.mu.Unlock()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// parcels records how long each order took from created to shipped.
type parcels struct {
	mu      sync.Mutex
	created map[string]time.Time
	shipped map[string]chan struct{} // closed with the parcel, by order
	took    []time.Duration
}

func follow(b *testing.B, sys *systemtest.System) *parcels {
	p := &parcels{created: map[string]time.Time{}, shipped: map[string]chan struct{}{}}
	client, err := sys.Client()
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- client.Follow(ctx, []string{event.OrderCreated.Every(), event.FulfillmentShipped.Every()}, stream.Position{}, p.apply)
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return p
}

func (p *parcels) apply(m jetstream.Msg) error {
	e, err := stream.EventOf(m)
	if err != nil {
		return err
	}
	if e.Type == event.FulfillmentShipped {
		close(p.of(e.Key))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Type == event.OrderCreated {
		p.created[e.Key] = e.Time
	} else {
		p.took = append(p.took, e.Time.Sub(p.created[e.Key]))
	}
	return nil
}

// of returns the channel that is closed with an order's parcel.
func (p *parcels) of(id string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shipped[id] == nil {
		p.shipped[id] = make(chan struct{})
	}
	return p.shipped[id]
}

func (p *parcels) await(b *testing.B, id string) {
	select {
	case <-p.of(id):
	case <-time.After(systemtest.Patience):
		b.Errorf("no parcel for order %s", id)
	}
}
