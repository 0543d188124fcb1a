package chaosplan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// Customers place a plan's purchases, and try until they succeed.
type Customers struct {
	T         *testing.T
	Purchases []Purchase
	Wave      string                    // begins the Idempotency-Keys of all
	Shop      func() (demo.Shop, error) // a replica of orders, another one each time

	buying    sync.WaitGroup
	mu        sync.Mutex
	taken     map[int]string  // ids of orders that were answered 202, by purchase
	cancelled map[string]bool // ids of orders whose cancellation was answered 202
}

// Buy places all purchases, each at its time, and returns when all are done.
func (c *Customers) Buy() {
	c.taken, c.cancelled = map[int]string{}, map[string]bool{}
	for i, p := range c.Purchases {
		c.buying.Go(func() {
			<-time.After(p.After)
			order, ok := c.place(i)
			if !ok {
				return
			}
			c.mu.Lock()
			c.taken[i] = order.ID
			c.mu.Unlock()
			if p.Cancel > 0 {
				<-time.After(p.Cancel)
				c.Cancel(order.ID)
			}
		})
	}
	c.buying.Wait()
}

// place places a purchase. Its Idempotency-Key leads to the same order each time.
func (c *Customers) place(i int) (order demo.Order, ok bool) {
	ok = c.ask(fmt.Sprint("place purchase ", i), func(ctx context.Context, shop demo.Shop) (err error) {
		order, err = shop.PlaceWithKey(ctx, c.Purchases[i].Scenario, fmt.Sprint(c.Wave, "purchase-", i))
		return err
	})
	return order, ok
}

// Cancel asks for an order's end. It may be concluded already.
func (c *Customers) Cancel(id string) {
	c.ask("cancel order "+id, func(ctx context.Context, shop demo.Shop) error {
		_, err := shop.Cancel(ctx, id)
		if code(err) == http.StatusConflict {
			return nil
		}
		if err == nil {
			c.mu.Lock()
			c.cancelled[id] = true
			c.mu.Unlock()
		}
		return err
	})
}

// ask makes a request until it succeeds. A replica that does not answer, that is not
// ready, that has too much to do (503, 429), or that lags behind the one that took the
// order (404) is asked again; every other answer fails the test.
func (c *Customers) ask(what string, request func(context.Context, demo.Shop) error) bool {
	const oneAnswer = 2 * time.Second
	for deadline := time.Now().Add(*Patience); ; <-time.After(20 * time.Millisecond) {
		shop, err := c.Shop()
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), oneAnswer)
			err = request(ctx, shop)
			cancel()
		}
		if err == nil {
			return true
		}
		switch code(err) {
		case 0, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusNotFound:
			if time.Now().Before(deadline) {
				continue
			}
		}
		c.T.Errorf("%s: %v", what, err)
		return false
	}
}

// code is an answer's HTTP status, 0 if there was no answer.
func code(err error) int {
	var status *demo.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// Taken returns the ids of the orders that were answered 202.
func (c *Customers) Taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.taken))
}

// BuyAgain places every purchase once more: the same key must lead to the same order.
func (c *Customers) BuyAgain() {
	c.T.Helper()
	for i, id := range c.taken {
		if order, ok := c.place(i); ok && order.ID != id {
			c.T.Errorf("purchase %d led to order %s, and later to %s", i, id, order.ID)
		}
	}
}

// Audit checks that the stream has exactly the orders that were placed, and the
// cancellations that the shop took.
func (c *Customers) Audit(l systemtest.Ledger) {
	c.T.Helper()
	if got, want := len(l.Orders), len(c.Purchases); got != want || len(c.taken) != want {
		c.T.Errorf("%d orders are in the stream and %d were taken, of %d purchases", got, len(c.taken), want)
	}
	for i, id := range c.taken {
		if len(l.Orders[id]) == 0 {
			c.T.Errorf("purchase %d: order %s was taken, and is not in the stream", i, id)
		}
	}
	for id := range c.cancelled {
		if _, ok := event.Find(l.Orders[id], event.OrderCancelled); !ok {
			c.T.Errorf("the cancellation of order %s was taken, and is not in the stream", id)
		}
	}
}

// AuditShop checks that the shop shows every order as the stream has it.
func (c *Customers) AuditShop(l systemtest.Ledger) {
	c.T.Helper()
	for _, id := range c.taken {
		var order demo.Order
		c.ask("get order "+id, func(ctx context.Context, shop demo.Shop) (err error) {
			order, err = shop.Get(ctx, id)
			return err
		})
		want := orders.StateCancelled
		if _, ok := event.Find(l.Orders[id], event.FulfillmentShipped); ok {
			want = orders.StateShipped
		}
		_, refunded := event.Find(l.Orders[id], event.PaymentRefunded)
		if order.State != want || order.Refunded != refunded {
			c.T.Errorf("order %s is shown as %s, refunded: %t; want %s, %t", id, order.State, order.Refunded, want, refunded)
		}
	}
}
