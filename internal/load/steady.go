package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.org/ordertrail/internal/demo"
)

// Steady places one order per Options.Every, of each scenario in turn, until ctx ends,
// and prints a line for each. It repeats requests that the shop does not answer, or
// answers with Retry-After, and gives an order up after a minute. It does not wait for
// the end of an order.
func Steady(ctx context.Context, o Options) error {
	if o.Every <= 0 {
		return errors.New("load: -every must be more than 0, such as 1s")
	}
	l := load{away: time.Second, shop: demo.Shop{URL: o.URL, Client: &http.Client{Timeout: orderTimeout}}}
	defer l.shop.Client.CloseIdleConnections()
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	var placing sync.WaitGroup
	defer placing.Wait()
	var lines sync.Mutex
	scenarios := demo.Scenarios()
	for n := 0; ; n++ {
		sc := scenarios[n%len(scenarios)]
		placing.Go(func() {
			order, err := l.placeScenario(ctx, sc)
			if ctx.Err() != nil {
				return
			}
			lines.Lock()
			defer lines.Unlock()
			if err != nil {
				fmt.Fprintf(o.Out, "%s: not accepted: %v\n", sc.Name, err)
				return
			}
			fmt.Fprintf(o.Out, "%s: order %s\n", sc.Name, order.ID)
		})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// placeScenario places one order, and cancels it at once if the scenario does.
func (l *load) placeScenario(ctx context.Context, sc demo.Scenario) (demo.Order, error) {
	key := rand.Text()
	order, err := l.patiently(ctx, func(ctx context.Context) (demo.Order, error) {
		return l.shop.PlaceWithKey(ctx, sc, key)
	})
	if err == nil && sc.Cancel {
		_, err = l.shop.Cancel(ctx, order.ID)
	}
	return order, err
}
