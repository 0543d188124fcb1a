package system_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/services/fulfillment"
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
// them, "idle" one. Both report orders/s, and how long it took from the request to the
// parcel.
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
	parcels := parcels{shipped: map[string]chan struct{}{}}
	sys := systemtest.Start(b, onStore(fulfillment.Name, parcels.stored), func(cfg *systemtest.Config) {
		cfg.NoTrail = !trail
		cfg.Tracing = func(string) []telemetry.Option {
			return []telemetry.Option{telemetry.WithSpanProcessor(sdktrace.NewBatchSpanProcessor(discard{}))}
		}
	})
	everything := demo.Scenarios()[0]
	order := func() {
		began := time.Now()
		order, err := sys.Shop.Place(context.Background(), everything)
		if err != nil {
			b.Error(err)
			return
		}
		parcels.await(b, order.ID, began)
	}
	order()
	parcels.took = nil

	b.ResetTimer()
	orders := make(chan struct{})
	var busy sync.WaitGroup
	for range customers {
		busy.Go(func() {
			for range orders {
				order()
			}
		})
	}
	for range b.N {
		orders <- struct{}{}
	}
	close(orders)
	busy.Wait()
	b.StopTimer()

	took := parcels.took
	if len(took) == 0 {
		b.Fatal("no parcels")
	}
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// parcels records how long each order took.
type parcels struct {
	mu      sync.Mutex
	shipped map[string]chan struct{} // holds a value when the parcel is on its way, by order
	took    []time.Duration
}

// stored is called for each event that fulfillment has stored.
func (p *parcels) stored(t event.Type, order string) {
	if t == event.FulfillmentShipped {
		select {
		case p.of(order) <- struct{}{}:
		default: // stored before
		}
	}
}

func (p *parcels) of(order string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shipped[order] == nil {
		p.shipped[order] = make(chan struct{}, 1)
	}
	return p.shipped[order]
}

func (p *parcels) await(b *testing.B, order string, began time.Time) {
	select {
	case <-p.of(order):
		p.mu.Lock()
		defer p.mu.Unlock()
		p.took = append(p.took, time.Since(began))
	case <-time.After(systemtest.Patience):
		b.Errorf("no parcel for order %s", order)
	}
}
