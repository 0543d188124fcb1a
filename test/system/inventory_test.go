package system_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/test/systemtest"
)

// The active writer is killed repeatedly, while orders compete for too little stock. A
// standby continues: no order is left out or decided twice, and nothing is oversold.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	sys := systemtest.Start(t, world.Use, quickRedelivery, func(cfg *systemtest.Config) {
		cfg.Replicas = map[string]int{inventory.Name: 2}
	})
	ctx := systemtest.Context(t)
	client := sys.Operator(t)
	if err := inventory.Restock(ctx, client, "SOLD-OUT", 20); err != nil { // once the first stock is there
		t.Fatal(err)
	}
	const n, rounds = 45, 3
	for round := range rounds {
		placeAll(t, sys, n/rounds, func(i int) []string {
			return [][]string{{"SOLD-OUT"}, {"COMPASS", "SOLD-OUT"}, {"COMPASS", "LAST-ONE", "SOLD-OUT"}}[i%3]
		})
		// Both: whichever is active dies with decisions open.
		sys.Replica(inventory.Name, 2*round).Kill()
		if _, err := sys.Run(ctx, inventory.Name); err != nil {
			t.Fatal(err)
		}
		sys.Replica(inventory.Name, 2*round+1).Kill()
		if _, err := sys.Run(ctx, inventory.Name); err != nil {
			t.Fatal(err)
		}
	}
	ledger := systemtest.Settle(t, sys.JetStream(), n)
	ledger.Audit(t, world)
	if got := ledger.Count(event.FulfillmentShipped); got != 20 {
		t.Errorf("%d orders were shipped, want 20: as many as there was stock for", got)
	}
}

// The server refuses a writer that was replaced without noticing, and the writer recovers.
func TestStaleWriterIsRefused(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	sys := systemtest.Start(t, world.Use, quickRedelivery)
	placeAll(t, sys, 1, func(int) []string { return []string{"COMPASS"} })
	systemtest.Settle(t, sys.JetStream(), 1)

	// Another writer publishes a lease message; the active writer holds its lease and has
	// not read that message.
	client := sys.Operator(t)
	m, err := event.Draft{Type: event.StockLease, Payload: event.Lease{Name: event.LeaseKey, Holder: "another"}}.Message(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	placeAll(t, sys, 1, func(int) []string { return []string{"LAST-ONE"} })
	ledger := systemtest.Settle(t, sys.JetStream(), 2)
	ledger.Audit(t, world)

	refused := 0
	for _, s := range sys.Spans.GetSpans() {
		if service(s) == inventory.Name && value(s.Attributes, "messaging.destination.template") == event.Template(event.InventoryReserved.Subject("")) && s.SpanKind == trace.SpanKindProducer && failed(s) {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d of the stale writer's decisions were refused, want 1", refused)
	}
	last := ledger.Stock[len(ledger.Stock)-1]
	if last.Type != event.StockLease || last.Sequence <= token.Sequence {
		t.Errorf("the last writer's lease message is %s at %d, want one after %d", last.Type, last.Sequence, token.Sequence)
	}
}

// placeAll places orders at once.
func placeAll(t *testing.T, sys *systemtest.System, n int, skus func(int) []string) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		sc := systemtest.Scenario(t, "happy")
		sc.SKUs = skus(i)
		all.Go(func() {
			if _, err := sys.Shop.Place(context.Background(), sc); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func failed(s tracetest.SpanStub) bool { return value(s.Attributes, "error.type") != "" }
