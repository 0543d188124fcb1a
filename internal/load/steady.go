package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.org/ordertrail/internal/cli"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/trail"
)

// Steady places one order per Options.Every, of each scenario in turn, until ctx ends,
// and prints a line for each. It repeats requests that the shop does not answer, or
// answers with Retry-After, and gives an order up after a minute. It does not wait for
// the end of an order, and places no more while a thousand wait for the shop's answer. It
// returns an error if the shop accepted no order.
func Steady(ctx context.Context, o Options) error {
	if o.Every <= 0 {
		return cli.Usagef("load: -every must be more than 0, such as 1s")
	}
	s := steady{Options: o, start: time.Now()}
	s.load = load{away: s.waiting, shop: demo.Shop{URL: o.URL, Client: &http.Client{Timeout: orderTimeout}}}
	defer s.load.shop.Client.CloseIdleConnections()
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	var placing sync.WaitGroup
	unanswered := make(chan struct{}, maxUnanswered)
	scenarios := demo.Scenarios()
	for n := 0; ctx.Err() == nil; n++ {
		sc := scenarios[n%len(scenarios)]
		select {
		case unanswered <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		placing.Go(func() {
			defer func() { <-unanswered }()
			order, err := s.load.placeScenario(ctx, sc)
			if ctx.Err() == nil || err == nil {
				s.placed(sc, order, err)
			}
		})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	placing.Wait()
	return s.report()
}

// steady is one call of Steady.
type steady struct {
	Options
	load  load
	start time.Time

	mu       sync.Mutex
	waits    error // why the shop was said not to answer; nil: it answers
	accepted int
	failed   int
	first    error // the first failure
}

// maxUnanswered bounds the memory while the shop is away.
const maxUnanswered = 1000

// againAfter is the time until a request that the shop did not answer is repeated.
const againAfter = time.Second

// waiting prints that the shop does not answer, once until it does again.
func (s *steady) waiting(err error) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits == nil {
		fmt.Fprintf(s.Out, "the shop does not answer, trying again every %s: %v\n", againAfter, err)
	}
	s.waits = err
	return againAfter
}

// placed prints how the shop answered.
func (s *steady) placed(sc demo.Scenario, order demo.Order, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed++
		s.first = cmp.Or(s.first, err)
		fmt.Fprintf(s.Out, "%s: not accepted: %v\n", sc.Name, err)
		return
	}
	s.accepted++
	s.waits = nil
	fmt.Fprintf(s.Out, "%s: order %s\n", sc.Name, order.ID)
}

// report prints the numbers, failures first.
func (s *steady) report() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := cmp.Or(s.first, s.waits)
	if s.accepted == 0 {
		if last == nil {
			return errors.New("load: interrupted before the shop accepted an order")
		}
		return fmt.Errorf("load: the shop accepted no order: %w", last)
	}
	fmt.Fprintf(s.Out, "%s failed\n%s in %.1f s\n%s repeated\n",
		trail.Counted(s.failed, "order"), trail.Counted(int(s.accepted), "order"), time.Since(s.start).Seconds(),
		trail.Counted(int(s.load.retries.Load()), "request"))
	return nil
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
