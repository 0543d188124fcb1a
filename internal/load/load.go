// Package load places many orders through the shop's API and measures the time from the
// request to the parcel.
package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
)

// Options are the options of a load.
type Options struct {
	URL         string
	Orders      int
	Concurrency int           // customers at once: each places an order and waits for its end
	Burst       bool          // all orders are placed first; then the customers wait for their ends
	Every       time.Duration // for Steady: the time between two orders
	Out         io.Writer
}

// orderTimeout bounds the attempts to place an order, and then again the wait for its
// end.
const orderTimeout = time.Minute

// Run places the orders and waits for the end of each. It returns an error if the shop
// did not accept an order, or an order did not end as it should. Requests that the shop
// answers with Retry-After are repeated after that time.
func Run(ctx context.Context, o Options) error {
	if o.Orders < 1 || o.Concurrency < 1 {
		return errors.New("load: -orders and -concurrency must be 1 or more")
	}
	l := load{
		scenario: demo.Scenarios()[0],
		shop: demo.Shop{URL: o.URL, Client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: o.Concurrency,
		}}},
		orders: make([]order, o.Orders),
	}
	defer l.shop.Client.CloseIdleConnections()
	start := time.Now()
	if o.Burst {
		l.each(ctx, o.Concurrency, l.place)
		l.each(ctx, o.Concurrency, l.await)
	} else {
		l.each(ctx, o.Concurrency, func(ctx context.Context, one *order) error {
			if err := l.place(ctx, one); err != nil {
				return err
			}
			return l.await(ctx, one)
		})
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return l.report(o.Out, time.Since(start))
}

// load is one run. It keeps little of each order, because there may be many.
type load struct {
	scenario demo.Scenario
	shop     demo.Shop
	orders   []order
	retries  atomic.Int64  // repeated requests
	away     time.Duration // until a request without an answer is repeated; 0: never
}

type order struct {
	id    string
	start time.Time     // of the first request
	took  time.Duration // from there to the parcel
	err   error
}

// each lets customers, in parallel, call do for each order that has not failed.
func (l *load) each(ctx context.Context, customers int, do func(context.Context, *order) error) {
	var next atomic.Int64
	var busy sync.WaitGroup
	for range customers {
		busy.Go(func() {
			for n := int(next.Add(1)); n <= len(l.orders) && ctx.Err() == nil; n = int(next.Add(1)) {
				if one := &l.orders[n-1]; one.err == nil {
					one.err = do(ctx, one)
				}
			}
		})
	}
	busy.Wait()
}

// place places the order under one Idempotency-Key, so that repeated requests make one
// order.
func (l *load) place(ctx context.Context, one *order) error {
	one.start = time.Now()
	key := rand.Text()
	placed, err := l.patiently(ctx, func(ctx context.Context) (demo.Order, error) {
		return l.shop.PlaceWithKey(ctx, l.scenario, key)
	})
	one.id = placed.ID
	return err
}

// await waits until the order is concluded.
func (l *load) await(ctx context.Context, one *order) error {
	end, err := l.patiently(ctx, func(ctx context.Context) (demo.Order, error) {
		return l.shop.Await(ctx, one.id, demo.Order.Concluded)
	})
	if err != nil {
		return fmt.Errorf("order %s: %w", one.id, err)
	}
	if end.State != l.scenario.Want.State {
		return fmt.Errorf("order %s is %s %s", end.ID, end.State, end.Reason)
	}
	for _, e := range end.Events {
		if e.Type == event.FulfillmentShipped {
			one.took = e.Time.Sub(one.start)
		}
	}
	return nil
}

// patiently repeats a request while the shop answers with Retry-After, until
// orderTimeout ends.
func (l *load) patiently(ctx context.Context, ask func(context.Context) (demo.Order, error)) (demo.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	for {
		answer, err := ask(ctx)
		busy := new(demo.StatusError)
		wait := l.away
		if errors.As(err, &busy) {
			wait = busy.RetryAfter
		}
		if err == nil || wait == 0 {
			return answer, err
		}
		l.retries.Add(1)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return answer, err
		}
	}
}

func (l *load) report(out io.Writer, all time.Duration) error {
	var took []time.Duration
	var failed []error
	for _, one := range l.orders {
		if one.err != nil {
			failed = append(failed, one.err)
		}
		took = append(took, one.took)
	}
	slices.Sort(took)
	fmt.Fprintf(out, "%d orders in %.1f s: %.0f orders/s; request to parcel p50 %.1f ms, p99 %.1f ms; %d failed; %d requests repeated\n",
		len(l.orders), all.Seconds(), float64(len(l.orders))/all.Seconds(),
		ms(took[len(took)/2]), ms(took[len(took)*99/100]), len(failed), l.retries.Load())
	if len(failed) > 0 {
		return fmt.Errorf("load: %d of %d orders failed, the first: %w", len(failed), len(l.orders), failed[0])
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
