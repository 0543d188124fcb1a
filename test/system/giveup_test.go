package system_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/internal/event"
	runtime "example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// lateCarrier books once, for a replica that cannot publish for long after that. For every
// later call it is away.
type lateCarrier struct {
	calls  atomic.Int64
	booked atomic.Bool
	onBook func()
	// onCancel is called, once, when the parcel is taken back.
	onCancel func()
	once     sync.Once
}

func (c *lateCarrier) Book(context.Context, string, string) (string, error) {
	if c.calls.Add(1) > 1 {
		return "", errors.New("the carrier is away")
	}
	c.booked.Store(true)
	c.onBook()
	return "parcel", nil
}

func (c *lateCarrier) Cancel(context.Context, string) error {
	c.booked.Store(false)
	c.once.Do(c.onCancel)
	return nil
}

// A deciding event becomes a dead letter while its first handler is about to publish that
// the parcel is shipped. Whichever is stored first, the parcel agrees with the order.
func TestGivenUpWhileBooked(t *testing.T) {
	t.Parallel()
	network := systemtest.NewNetwork(systemtest.Server(t).Connect)
	t.Cleanup(network.Close)
	var sys *systemtest.System
	concluded := func() bool {
		for _, events := range systemtest.Read(t, sys.JetStream()).Orders {
			if systemtest.Concluded(events) == nil {
				return true
			}
		}
		return false
	}
	carrier := &lateCarrier{
		onBook: func() { network.Client(fulfillment.Name, 0).Pause() },
		onCancel: func() {
			network.Client(fulfillment.Name, 0).Resume()
			systemtest.Until(t, "the order is concluded", concluded)
		},
	}
	sys = systemtest.StartOn(t, network.Connect, func(cfg *systemtest.Config) {
		cfg.Topology.AckWait = time.Second
		cfg.Wire = map[string]runtime.Wire{fulfillment.Name: func(rt *runtime.Runtime) (runtime.Part, error) {
			return fulfillment.New(rt, carrier), nil
		}}
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenarioNamed(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "a parcel is booked", carrier.booked.Load)
	if _, err := sys.Run(ctx, fulfillment.Name); err != nil {
		t.Fatal(err)
	}
	systemtest.Settle(t, sys.JetStream(), 1)
	if order, err = sys.Shop.Get(ctx, order.ID); err != nil {
		t.Fatal(err)
	}
	if shipped := order.State == orders.StateShipped; shipped != carrier.booked.Load() {
		t.Errorf("the order is %s (%s), and its parcel booked: %t", order.State, order.Reason, carrier.booked.Load())
	}
	if order.State == orders.StateCancelled && order.Reason != event.ReasonUndeliverable {
		t.Errorf("cancelled because of %s", order.Reason)
	}
}

// late lets one call through, after its caller has stopped waiting and the order was
// cancelled. All others fail.
type late struct {
	calls   atomic.Int64
	proceed chan struct{}
}

func (o *late) wait(ctx context.Context) error {
	if o.calls.Add(1) > 1 {
		return errors.New("away")
	}
	<-ctx.Done()
	<-o.proceed
	return nil
}

type lateGateway struct {
	*systemtest.World
	late
}

func (g *lateGateway) Charge(ctx context.Context, c payments.Charge) (string, error) {
	if err := g.wait(ctx); err != nil {
		return "", err
	}
	return g.World.Charge(ctx, c)
}

type lateBooking struct {
	*systemtest.World
	late
}

func (b *lateBooking) Book(ctx context.Context, key, address string) (string, error) {
	if err := b.wait(ctx); err != nil {
		return "", err
	}
	return b.World.Book(ctx, key, address)
}

// An effect may happen after its handler ran out of time, its event became a dead letter
// and its order was cancelled. That handler undoes it, since no other will.
func TestEffectAfterGivenUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		effect string
		wire   func(*systemtest.Config, *systemtest.World) *late
		left   func(w *systemtest.World, order string) bool
	}{{
		effect: "charge",
		wire: func(cfg *systemtest.Config, w *systemtest.World) *late {
			gateway := &lateGateway{w, late{proceed: make(chan struct{})}}
			cfg.Wire[payments.Name] = func(rt *runtime.Runtime) (runtime.Part, error) { return payments.New(rt, gateway), nil }
			return &gateway.late
		},
		left: func(w *systemtest.World, order string) bool { return w.Captured(order) != 0 },
	}, {
		effect: "book",
		wire: func(cfg *systemtest.Config, w *systemtest.World) *late {
			carrier := &lateBooking{w, late{proceed: make(chan struct{})}}
			cfg.Wire[fulfillment.Name] = func(rt *runtime.Runtime) (runtime.Part, error) { return fulfillment.New(rt, carrier), nil }
			return &carrier.late
		},
		left: (*systemtest.World).Parcel,
	}} {
		t.Run(c.effect, func(t *testing.T) {
			t.Parallel()
			world, happened := systemtest.NewWorld(), make(chan struct{})
			world.Did = func(effect, _ string) {
				if effect == c.effect {
					close(happened) // once
				}
			}
			var one *late
			sys := systemtest.Start(t, systemtest.Deadline(2*time.Second), func(cfg *systemtest.Config) {
				cfg.Topology.AckWait = time.Second
				world.Use(cfg)
				one = c.wire(cfg, world)
			})
			ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
			defer cancel()
			order, err := sys.Shop.Place(ctx, scenarioNamed(t, "happy"))
			if err != nil {
				t.Fatal(err)
			}
			awaitDeadLetter(ctx, t, sys)
			systemtest.Until(t, "both sides are closed", func() bool {
				order, err = sys.Shop.Get(ctx, order.ID)
				closed := 0
				for _, e := range order.Events {
					switch e.Type {
					case event.PaymentDeclined, event.PaymentRefunded, event.InventoryReleased:
						closed++
					}
				}
				return err == nil && closed == 2
			})
			close(one.proceed)
			select {
			case <-happened:
			case <-ctx.Done():
				t.Fatal("the effect never came")
			}
			systemtest.Until(t, "the effect is undone", func() bool { return !c.left(world, order.ID) })
			systemtest.Settle(t, sys.JetStream(), 1)
		})
	}
}

// lossy takes the money, and loses the answer.
type lossy struct {
	*systemtest.World
	charges atomic.Int64
	last    func() // called before the last charge is made
}

func (g *lossy) Charge(ctx context.Context, c payments.Charge) (string, error) {
	if g.charges.Add(1) < 5 {
		return "", errors.New("the gateway is busy")
	}
	g.last()
	if _, err := g.World.Charge(ctx, c); err != nil {
		return "", err
	}
	return "", errors.New("the answer was lost")
}

// A charge whose answer is lost, at the event's last delivery, after its order was
// cancelled and closed, is refunded: no other handler will do it.
func TestLastChargeOfCancelledOrder(t *testing.T) {
	t.Parallel()
	gateway := &lossy{World: systemtest.NewWorld()}
	placed := make(chan string, 1)
	var sys *systemtest.System
	gateway.last = func() {
		id := <-placed
		if _, err := sys.Shop.Cancel(context.Background(), id); err != nil {
			t.Error(err)
		}
		systemtest.Until(t, "payment is closed", func() bool {
			_, ok := event.Find(systemtest.Read(t, sys.JetStream()).Orders[id], event.PaymentDeclined)
			return ok
		})
	}
	sys = systemtest.Start(t, func(cfg *systemtest.Config) {
		gateway.Use(cfg)
		cfg.Wire[payments.Name] = func(rt *runtime.Runtime) (runtime.Part, error) { return payments.New(rt, gateway), nil }
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenarioNamed(t, "happy"))
	if err != nil {
		t.Fatal(err)
	}
	placed <- order.ID
	awaitDeadLetter(ctx, t, sys)
	systemtest.Settle(t, sys.JetStream(), 1)
	if got := gateway.Captured(order.ID); got != 0 {
		t.Errorf("%d were taken for a cancelled order, and not given back", got)
	}
}

// slowRefund refunds after its caller has stopped waiting.
type slowRefund struct{ *systemtest.World }

func (g *slowRefund) Refund(ctx context.Context, key string) error {
	<-ctx.Done()
	return g.World.Refund(ctx, key)
}

// A refund that takes long is published as refunded.
func TestRefundTakesLong(t *testing.T) {
	t.Parallel()
	world := systemtest.NewWorld()
	sys := systemtest.Start(t, func(cfg *systemtest.Config) {
		world.Use(cfg)
		cfg.Wire[payments.Name] = func(rt *runtime.Runtime) (runtime.Part, error) { return payments.New(rt, &slowRefund{world}), nil }
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	order, err := sys.Shop.Place(ctx, scenarioNamed(t, "sold-out"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "payment is closed, or the event a dead letter", func() bool {
		if letters, err := client.DeadLetters(ctx); err != nil || len(letters) > 0 {
			t.Fatalf("dead letters: %+v, %v", letters, err)
		}
		_, refunded := event.Find(systemtest.Read(t, sys.JetStream()).Orders[order.ID], event.PaymentRefunded)
		return refunded
	})
	if got := world.Captured(order.ID); got != 0 {
		t.Errorf("%d were not given back", got)
	}
}

// awaitDeadLetter waits until an event is a dead letter.
func awaitDeadLetter(ctx context.Context, t *testing.T, sys *systemtest.System) {
	t.Helper()
	client, err := sys.Client()
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the event is a dead letter", func() bool {
		letters, err := client.DeadLetters(ctx)
		return err == nil && len(letters) == 1
	})
}
