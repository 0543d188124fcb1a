// Package load places many orders through the shop's API and says how long they
// took, from the request to the parcel.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ordertrail/internal/demo"
	"ordertrail/internal/event"
	"ordertrail/services/orders"
)

// Options are a load's.
type Options struct {
	URL         string
	Orders      int
	Concurrency int // customers at once: each places an order and waits for its end
	Out         io.Writer
}

// orderTimeout is how long one order may take until it is concluded.
const orderTimeout = time.Minute

// Run places the orders and waits for the end of each. It fails if an order was
// not taken, or did not end as it should.
func Run(ctx context.Context, o Options) error {
	if o.Orders < 1 || o.Concurrency < 1 {
		return errors.New("load: -orders and -concurrency must be 1 or more")
	}
	scenario := demo.Scenarios()[0]
	shop := demo.Shop{URL: o.URL, Client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: o.Concurrency,
	}}}
	var next, failed atomic.Int64
	var firstErr atomic.Pointer[error]
	took := make([]time.Duration, o.Orders)
	start := time.Now()
	var customers sync.WaitGroup
	for range o.Concurrency {
		customers.Go(func() {
			for n := next.Add(1); n <= int64(o.Orders) && ctx.Err() == nil; n = next.Add(1) {
				d, err := place(ctx, shop, scenario)
				if err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, &err)
				}
				took[n-1] = d
			}
		})
	}
	customers.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	all := time.Since(start)
	slices.Sort(took)
	fmt.Fprintf(o.Out, "%d orders in %.1f s: %.0f orders/s; request to parcel p50 %.1f ms, p99 %.1f ms; %d failed\n",
		o.Orders, all.Seconds(), float64(o.Orders)/all.Seconds(),
		ms(took[len(took)/2]), ms(took[len(took)*99/100]), failed.Load())
	if err := firstErr.Load(); err != nil {
		return fmt.Errorf("load: %d of %d orders failed, the first: %w", failed.Load(), o.Orders, *err)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// place returns the time from the request to the parcel.
func place(ctx context.Context, shop demo.Shop, sc demo.Scenario) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	start := time.Now()
	order, err := shop.Place(ctx, sc)
	if err != nil {
		return 0, err
	}
	order, err = shop.Await(ctx, order.ID, func(o orders.Order) bool {
		return o.State == orders.StateShipped || o.State == orders.StateCancelled
	})
	if err != nil {
		return 0, err
	}
	if order.State != sc.Want.State {
		return 0, fmt.Errorf("order %s is %s", order.ID, order.State)
	}
	shipped := slices.IndexFunc(order.Events, func(e orders.Event) bool { return e.Type == event.FulfillmentShipped })
	return order.Events[shipped].Time.Sub(start), nil
}
