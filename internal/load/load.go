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
	"sync"
	"sync/atomic"
	"time"

	"example.org/ordertrail/internal/cli"
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
	Out         io.Writer     // for the report
	Progress    io.Writer     // for the progress of Run; nil: none
	Terminal    bool          // Progress is a terminal: show a bar there
}

// orderTimeout bounds the attempts to place an order, and then again the wait for its
// end.
const orderTimeout = time.Minute

// Bounds of Run. Above them the load would be that of the machine it runs on.
const (
	maxOrders      = 10_000_000
	maxConcurrency = 10_000
)

// Run places the orders and waits for the end of each. It returns an error if the shop
// did not accept an order, an order did not end as it should, or ctx ended before all
// orders did; it prints the numbers of the other orders nevertheless. Requests that the
// shop answers with Retry-After are repeated after that time.
func Run(ctx context.Context, o Options) error {
	if o.Orders < 1 || o.Orders > maxOrders || o.Concurrency < 1 || o.Concurrency > maxConcurrency {
		return cli.Usagef("load: want 1 to %d -orders and 1 to %d customers at once (-concurrency), not %d and %d", maxOrders, maxConcurrency, o.Orders, o.Concurrency)
	}
	l := load{
		scenario: demo.Scenarios()[0],
		shop: demo.Shop{URL: o.URL, Client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: o.Concurrency,
		}}},
		orders: make([]order, o.Orders),
		start:  time.Now(),
	}
	defer l.shop.Client.CloseIdleConnections()
	stop := func() {}
	if o.Progress != nil {
		stop = l.showProgress(o.Progress, o.Terminal)
	}
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
	stop()
	return l.report(o.Out, ctx.Err() != nil)
}

// load is one run. It keeps little of each order, because there may be many.
type load struct {
	scenario demo.Scenario
	shop     demo.Shop
	orders   []order
	start    time.Time
	away     func(error) time.Duration // the wait before a request without an answer is repeated; nil: never

	// For the progress.
	placed, ended, failed atomic.Int64
	retries               atomic.Int64          // repeated requests
	firstFailure          atomic.Pointer[error] // by time
}

type order struct {
	id    string
	start time.Time     // of the first request
	took  time.Duration // from there to the parcel
	ended bool          // as it should
	err   error         // why it failed
}

// each calls do for each order that has not failed, by parallel customers. An order that
// the end of ctx cuts off has neither failed nor ended.
func (l *load) each(ctx context.Context, customers int, do func(context.Context, *order) error) {
	var next atomic.Int64
	var busy sync.WaitGroup
	for range customers {
		busy.Go(func() {
			for n := int(next.Add(1)); n <= len(l.orders) && ctx.Err() == nil; n = int(next.Add(1)) {
				one := &l.orders[n-1]
				if one.err != nil {
					continue
				}
				if err := do(ctx, one); err != nil && ctx.Err() == nil {
					one.err = err
					l.failed.Add(1)
					l.firstFailure.CompareAndSwap(nil, &err)
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
	if err != nil {
		return err
	}
	l.placed.Add(1)
	one.id = placed.ID
	return nil
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
	one.ended = true
	l.ended.Add(1)
	return nil
}

// patiently repeats a request while the shop answers with Retry-After, until
// orderTimeout ends.
func (l *load) patiently(ctx context.Context, ask func(context.Context) (demo.Order, error)) (demo.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	for {
		answer, err := ask(ctx)
		if err == nil {
			return answer, nil
		}
		busy := new(demo.StatusError)
		var wait time.Duration
		switch {
		case errors.As(err, &busy):
			wait = busy.RetryAfter
		case l.away != nil && ctx.Err() == nil:
			wait = l.away(err)
		}
		if wait == 0 {
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
