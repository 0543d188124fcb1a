package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/orders"
)

const heading = `| orders | disk | memory: NATS | services | NATS ready | first decision | NATS ready after kill | first decision after kill | takeover | one order, idle | shop | order | trail | analytics |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|`

// orderTimeout bounds the wait for the end of one order.
const orderTimeout = 2 * time.Minute

// catchUpTimeout bounds the first takeover, which reads all events.
const catchUpTimeout = 10 * time.Minute

// idleOrders is how many orders the latency is the median of.
const idleOrders = 21

// measure runs ordertrail on the store in dir and returns a row of the table.
func measure(ctx context.Context, dir string, n int) (row string, err error) {
	// The first run lets every fold catch up and write its state. Inventory has no snapshot
	// yet, so the deadline may cancel the first order.
	s, err := startSystem(ctx, dir)
	for until := time.Now().Add(catchUpTimeout); errors.Is(err, errNotDecided) && time.Now().Before(until); {
		err = s.decide(ctx)
	}
	if err != nil {
		return "", err
	}
	if err := s.stop(syscall.SIGTERM); err != nil {
		return "", err
	}
	s, err = startSystem(ctx, dir)
	if err != nil {
		return "", err
	}
	afterTerm := *s
	idle, err := s.idle(ctx)
	if err != nil {
		return "", errors.Join(err, s.stop(syscall.SIGKILL))
	}
	if err := s.stop(syscall.SIGKILL); err != nil {
		return "", err
	}
	s, err = startSystem(ctx, dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.stop(syscall.SIGTERM)) }()
	var pages [4]time.Duration
	for i, path := range []string{"/", "/orders/" + s.first.ID, "/orders/" + s.first.ID + "/trail", "/analytics"} {
		if pages[i], err = page(ctx, s.services.url+path); err != nil {
			return "", err
		}
	}
	natsMemory, err := s.nats.memory("VmHWM")
	if err != nil {
		return "", err
	}
	servicesMemory, err := s.services.memory("VmHWM")
	if err != nil {
		return "", err
	}
	disk, err := size(dir)
	if err != nil {
		return "", err
	}
	cells := []any{n, mega(disk), mega(natsMemory), mega(servicesMemory),
		afterTerm.nats.took, afterTerm.decided, s.nats.took, s.decided, max(afterTerm.takeover, s.takeover),
		idle, pages[0], pages[1], pages[2], pages[3]}
	var b strings.Builder
	for _, c := range cells {
		if d, ok := c.(time.Duration); ok {
			c = d.Round(100 * time.Microsecond)
		}
		fmt.Fprintf(&b, "| %v ", c)
	}
	return b.String() + "|", nil
}

func mega(bytes int64) string { return fmt.Sprintf("%d MB", bytes/1e6) }

// system is NATS and the services as processes, after their first order.
type system struct {
	nats, services *process
	shop           demo.Shop
	first          orders.Order
	decided        time.Duration // from NATS ready until inventory decided the first order
	takeover       time.Duration // from the writer's lease message until then
}

func startSystem(ctx context.Context, dir string) (s *system, err error) {
	s = &system{}
	if s.nats, err = start(ctx, roleNATS, dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && !errors.Is(err, errNotDecided) {
			err = errors.Join(err, s.stop(syscall.SIGKILL))
		}
	}()
	if s.services, err = start(ctx, roleServices, s.nats.url); err != nil {
		return s, err
	}
	s.shop = demo.Shop{URL: s.services.url, Client: http.DefaultClient}
	return s, s.decide(ctx)
}

// errNotDecided is the error of decide for an order that ended before inventory decided.
var errNotDecided = errors.New("inventory did not decide the first order in time")

// decide places the first order, and measures the time until inventory decides it.
func (s *system) decide(ctx context.Context) (err error) {
	if s.first, err = s.order(ctx); err != nil {
		return err
	}
	for _, e := range s.first.Events {
		if e.Type == event.InventoryReserved {
			s.decided = e.Time.Sub(s.nats.ready)
			began, err := lease(ctx, s.nats.url)
			s.takeover = e.Time.Sub(began)
			return err
		}
	}
	return errNotDecided
}

func (s *system) stop(signal syscall.Signal) (err error) {
	if s.services != nil {
		err = s.services.end(signal)
	}
	return errors.Join(err, s.nats.end(signal))
}

// order places an order that is shipped, and waits for its end.
func (s *system) order(ctx context.Context) (orders.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	order, err := patiently(ctx, func() (orders.Order, error) { return s.shop.Place(ctx, demo.Scenarios()[0]) })
	if err != nil {
		return order, err
	}
	return patiently(ctx, func() (orders.Order, error) { return s.shop.Await(ctx, order.ID, orders.Order.Concluded) })
}

// patiently repeats a request that the shop answers with Retry-After.
func patiently(ctx context.Context, ask func() (orders.Order, error)) (orders.Order, error) {
	for {
		order, err := ask()
		var busy *demo.StatusError
		if !errors.As(err, &busy) || busy.RetryAfter == 0 {
			return order, err
		}
		select {
		case <-time.After(busy.RetryAfter):
		case <-ctx.Done():
			return order, err
		}
	}
}

// idle returns the median time from an order's first event to its last one, one order
// after the other.
func (s *system) idle(ctx context.Context) (time.Duration, error) {
	var took []time.Duration
	for range idleOrders {
		order, err := s.order(ctx)
		if err != nil {
			return 0, err
		}
		for _, e := range order.Events {
			if e.Type == event.FulfillmentShipped {
				took = append(took, e.Time.Sub(order.Events[0].Time))
			}
		}
	}
	return median(took), nil
}

// page returns the median time of a page.
func page(ctx context.Context, url string) (time.Duration, error) {
	var took []time.Duration
	for range 5 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		request.Header.Set("Accept", "text/html")
		began := time.Now()
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("GET %s: %s: %w", url, answer.Status, err)
		}
		took = append(took, time.Since(began))
	}
	return median(took), nil
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// lease returns when the active writer of inventory fenced its predecessors.
func lease(ctx context.Context, url string) (time.Time, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return time.Time{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return time.Time{}, err
	}
	s, err := js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		return time.Time{}, err
	}
	m, err := s.GetLastMsgForSubject(ctx, event.StockLease.Subject(event.LeaseKey))
	if err != nil {
		return time.Time{}, err
	}
	return m.Time, nil
}

// size returns the bytes of all files in dir.
func size(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	return total, err
}
