package system_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/test/systemtest"
)

// Many orders race for the last unit: one gets it.
func TestLastUnit(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	sys := systemtest.Start(t, world.Use)
	sc := scenarioNamed(t, "happy")
	sc.SKUs = []string{"COMPASS", "LAST-ONE"}
	const n = 40
	placeAll(t, sys, n, func(int) []string { return sc.SKUs })
	ledger := systemtest.Settle(t, sys.JetStream(), n)
	ledger.Audit(t, world)
	if got := ledger.Count(event.FulfillmentShipped); got != 1 {
		t.Errorf("%d orders were shipped, want 1", got)
	}
	if got := ledger.Count(event.InventoryRejected); got != n-1 {
		t.Errorf("%d orders were rejected, want %d", got, n-1)
	}
}

// The active writer is killed repeatedly, while orders compete for too little stock. A
// standby continues: no order is left out or decided twice, and nothing is oversold.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	sys := systemtest.Start(t, world.Use, quickRedelivery, func(cfg *systemtest.Config) {
		cfg.Replicas = map[string]int{inventory.Name: 2}
	})
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
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
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	token := fence(t, client, "another")
	placeAll(t, sys, 1, func(int) []string { return []string{"LAST-ONE"} })
	ledger := systemtest.Settle(t, sys.JetStream(), 2)
	ledger.Audit(t, world)

	refused := 0
	for _, s := range sys.Spans.GetSpans() {
		if service(s) == inventory.Name && s.Name == "publish inventory.reserved" && failed(s) {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d of the stale writer's decisions were refused, want 1", refused)
	}
	last := ledger.Stock[len(ledger.Stock)-1]
	if last.Type != event.StockLease || last.Sequence <= token {
		t.Errorf("the last writer's lease message is %s at %d, want one after %d", last.Type, last.Sequence, token)
	}
}

// A decision under an old token is refused even if no other decision exists.
func TestFencing(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, func(cfg *systemtest.Config) {
		systemtest.NewWorld().Use(cfg)
		cfg.Wire[inventory.Name] = systemtest.Idle
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	old, current := fence(t, client, "old"), fence(t, client, "current")
	id := event.NewOrderID()
	decide := func(token uint64) error {
		d := event.Draft{Type: event.InventoryRejected, Payload: event.Refused{OrderKey: event.OrderKey{OrderID: id}, Reason: event.ReasonOutOfStock}}
		_, err := client.PublishOnce(ctx, d, stream.Fenced(d.Type, id, token))
		return err
	}
	if err := decide(old); err == nil {
		t.Error("the old writer's decision was stored")
	}
	for range 2 { // the second time it is already stored
		if err := decide(current); err != nil {
			t.Errorf("the current writer's decision: %v", err)
		}
	}
	if got := len(systemtest.Read(t, sys.JetStream()).Orders[id]); got != 1 {
		t.Errorf("%d decisions are stored, want 1", got)
	}
}

// fence publishes a lease message as a writer does, and returns its fencing token.
func fence(t *testing.T, client *stream.Client, holder string) uint64 {
	t.Helper()
	m, err := event.Draft{Type: event.StockLease, Payload: event.Lease{Name: event.LeaseKey, Holder: holder}}.Message(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ack, err := client.Publish(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// placeAll places orders at once.
func placeAll(t *testing.T, sys *systemtest.System, n int, skus func(int) []string) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		sc := scenarioNamed(t, "happy")
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
