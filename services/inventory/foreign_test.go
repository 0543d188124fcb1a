package inventory_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// A message in the place of one product's first stock costs that product's stock,
// and not the whole service.
func TestForeignSeed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := systemtest.Server(t)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Provision(ctx, js, stream.Topology{}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: event.StockAdded.Subject("COMPASS"), Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}

	sys := systemtest.StartOn(t, server.Connect)
	play := func(sku string, want demo.Want) {
		t.Helper()
		order, err := sys.Shop.Place(ctx, demo.Scenario{Scenario: scenario.Scenario{Token: "tok_ok", SKUs: []string{sku}, Addr: "1 Trailhead Way"}})
		if err != nil {
			t.Fatal(err)
		}
		waiting, cancel := context.WithTimeout(ctx, systemtest.Patience)
		defer cancel()
		order, err = sys.Shop.Await(waiting, order.ID, func(o demo.Order) bool { return o.State == want.State })
		if err != nil || order.Reason != want.Reason {
			t.Errorf("an order of %s is %s (%s), %v, want %s (%s)", sku, order.State, order.Reason, err, want.State, want.Reason)
		}
	}
	play("TRAIL-MAP", demo.Want{State: "shipped"})
	play("COMPASS", demo.Want{State: "cancelled", Reason: event.ReasonOutOfStock})
}
