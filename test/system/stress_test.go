package system_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

var stress = flag.Bool("stress", false, "run the stress tests at full size")

// Outcomes and cancellations race for every order, with two replicas of
// fulfillment: each order is concluded once, and by the rule.
func TestStressFanIn(t *testing.T) {
	t.Parallel()
	orders := 500
	if *stress {
		orders = 10_000
	}
	world := systemtest.NewWorld()
	sys := systemtest.Start(t, fanInAlone(world, 2))
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	race(t, client, orders)
	systemtest.Quiet{ // nothing closes the cancelled orders
		Orders: orders, Done: systemtest.Concluded,
		Consumers: []stream.Durable{{Name: fulfillment.Name, Stream: stream.OrdersStream}},
	}.Await(t, sys.JetStream()).Audit(t, world)
}

// fanInAlone runs fulfillment for real; the test plays the other services.
func fanInAlone(world *systemtest.World, replicas int) func(*systemtest.Config) {
	return func(cfg *systemtest.Config) {
		world.UseCarrier(cfg)
		for _, name := range []string{payments.Name, inventory.Name, notify.Name, analytics.Name} {
			cfg.Wire[name] = systemtest.Idle
		}
		cfg.Replicas = map[string]int{fulfillment.Name: replicas}
	}
}

// racers is how many orders are under way at once.
const racers = 16

// race publishes orders and, for each, both outcomes at once, sometimes a
// cancellation with them, sometimes an outcome by two rivals.
func race(t *testing.T, client *stream.Client, orders int) {
	t.Helper()
	const seed = 1
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	slots := make(chan struct{}, racers)
	for n := range orders {
		slots <- struct{}{}
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			defer func() { <-slots }()
			if err := raceOne(ctx, client, random); err != nil {
				t.Errorf("order %d: %v", n, err)
			}
		})
	}
	all.Wait()
}

func raceOne(ctx context.Context, client *stream.Client, random *rand.Rand) error {
	id := event.NewOrderID()
	key := event.OrderKey{OrderID: id}
	product := catalog.Products()[0]
	items := []event.Item{{SKU: product.SKU, Quantity: 1, UnitPrice: product.Price}}
	created, err := client.PublishOnce(ctx, event.Draft{Type: event.OrderCreated, Payload: event.Created{
		OrderKey: key, Items: items, Total: product.Price,
		Customer: event.Customer{Name: "Robin Example", Email: "robin@example.com"},
		Shipping: event.Shipping{Address: "1 Trailhead Way"},
	}}, stream.First(event.OrderCreated, id))
	if err != nil {
		return err
	}
	confirmed := event.Draft{Type: event.PaymentConfirmed, Payload: event.Charge{OrderKey: key, ChargeID: "ch", Amount: product.Price}}
	declined := event.Draft{Type: event.PaymentDeclined, Payload: event.Refused{OrderKey: key, Reason: event.ReasonPaymentDeclined}}
	reserved := event.Draft{Type: event.InventoryReserved, Payload: event.Reservation{OrderKey: key, Items: items}}
	rejected := event.Draft{Type: event.InventoryRejected, Payload: event.Refused{OrderKey: key, Reason: event.ReasonOutOfStock}}
	cancelled := event.Draft{Type: event.OrderCancelled, Payload: event.CancelRequested{OrderKey: key, Reason: event.ReasonCustomer}}

	var rivals []func() error
	publish := func(d event.Draft, g stream.Guard) {
		rivals = append(rivals, func() error {
			_, err := client.PublishOnce(ctx, d, g)
			if errors.Is(err, stream.ErrConflict) {
				return nil
			}
			return err
		})
	}
	if random.IntN(10) < 9 {
		publish(confirmed, stream.First(event.PaymentConfirmed, id))
	}
	if random.IntN(10) < 3 || len(rivals) == 0 {
		publish(declined, stream.First(event.PaymentDeclined, id))
	}
	stock := reserved
	if random.IntN(10) == 0 {
		stock = rejected
	}
	publish(stock, stream.First(stock.Type, id))
	if random.IntN(10) < 4 {
		publish(cancelled, stream.After(event.OrderCancelled, id, created.Sequence))
	}
	random.Shuffle(len(rivals), func(i, j int) { rivals[i], rivals[j] = rivals[j], rivals[i] })
	var wg sync.WaitGroup
	errs := make([]error, len(rivals))
	for i, rival := range rivals {
		wg.Go(func() { errs[i] = rival() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
