package process

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// buy places an order, for as long as it takes, and may change its mind.
func (c *chaos) buy(i int, p purchase) {
	c.wait(p.after)
	var order demo.Order
	if !c.ask(fmt.Sprintf("purchase %d", i), func(ctx context.Context, shop demo.Shop) (err error) {
		order, err = shop.PlaceWithKey(ctx, p.scenario, key(i))
		return err
	}) {
		return
	}
	c.mu.Lock()
	c.taken[i] = order.ID
	c.mu.Unlock()
	if p.cancel == 0 {
		return
	}
	c.wait(p.cancel)
	late := false
	if c.ask("cancel "+order.ID, func(ctx context.Context, shop demo.Shop) error {
		_, err := shop.Cancel(ctx, order.ID)
		var status *demo.StatusError
		if late = errors.As(err, &status) && status.Code == http.StatusConflict; late {
			return nil // it is over
		}
		return err
	}) {
		c.mu.Lock()
		c.cancelled[order.ID] = !late
		c.mu.Unlock()
	}
}

// key is the i-th purchase's Idempotency-Key.
func key(i int) string { return fmt.Sprintf("purchase-%d", i) }

// ask has a request made until it succeeds, of one replica of orders after the
// other. One that does not answer, is not able to, or has too much to do is not the
// customer's fault; all else fails the test.
func (c *chaos) ask(what string, request func(context.Context, demo.Shop) error) bool {
	for until := time.Now().Add(systemtest.Patience); ; {
		err := errNobody
		if url := c.shop(); url != "" {
			ctx, cancel := context.WithTimeout(c.t.Context(), customerPatience)
			err = request(ctx, demo.Shop{URL: url, Client: &c.client})
			cancel()
		}
		if err == nil {
			return true
		}
		var status *demo.StatusError
		refused := errors.As(err, &status) && status.Code < 500 && status.Code != http.StatusTooManyRequests
		if refused || time.Now().After(until) || c.t.Context().Err() != nil {
			c.t.Errorf("%s: %v", what, err)
			return false
		}
		c.wait(20 * time.Millisecond)
	}
}

var errNobody = errors.New("no replica of orders is there")

// customerPatience is how long a customer waits for one answer.
const customerPatience = 2 * time.Second

func (c *chaos) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

// askAgain has every customer place their order once more, by the same key, which
// leads to the order that they have.
func (c *chaos) askAgain() {
	c.t.Helper()
	if len(c.taken) != len(c.plan.purchases) {
		c.t.Errorf("%d orders were taken of %d", len(c.taken), len(c.plan.purchases))
	}
	for i, id := range c.taken {
		c.ask("again "+key(i), func(ctx context.Context, shop demo.Shop) error {
			order, err := shop.PlaceWithKey(ctx, c.plan.purchases[i].scenario, key(i))
			if err == nil && order.ID != id {
				c.t.Errorf("%s led to order %s, and later to %s", key(i), id, order.ID)
			}
			return err
		})
	}
}

// look has every customer look at their order, which must be as the stream tells.
func (c *chaos) look(l systemtest.Ledger) {
	c.t.Helper()
	for _, id := range c.taken {
		var order demo.Order
		c.ask("look at "+id, func(ctx context.Context, shop demo.Shop) (err error) {
			order, err = shop.Get(ctx, id)
			return err
		})
		want := orders.StateCancelled
		if _, ok := event.Find(l.Orders[id], event.FulfillmentShipped); ok {
			want = orders.StateShipped
		}
		_, refunded := event.Find(l.Orders[id], event.PaymentRefunded)
		if order.State != want || order.Refunded != refunded {
			c.t.Errorf("order %s is shown as %s, refunded: %t; want %s, %t", id, order.State, order.Refunded, want, refunded)
		}
	}
}
