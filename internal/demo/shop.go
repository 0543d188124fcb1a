package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/services/orders"
)

// Order is an order in an answer of the shop.
type Order = orders.Order

// Shop is a client of the shop's API.
type Shop struct {
	URL    string
	Client *http.Client
}

// Place places the scenario's order.
func (s Shop) Place(ctx context.Context, sc Scenario) (orders.Order, error) {
	return s.PlaceWithKey(ctx, sc, "")
}

// PlaceWithKey places the scenario's order under an Idempotency-Key: a repetition
// returns the same order. "" is no key.
func (s Shop) PlaceWithKey(ctx context.Context, sc Scenario, key string) (orders.Order, error) {
	var o Order
	err := s.call(ctx, http.MethodPost, "/orders", key, sc.Request(), &o)
	return o, err
}

// Cancel asks to cancel the order.
func (s Shop) Cancel(ctx context.Context, id string) (orders.Order, error) {
	var o Order
	err := s.call(ctx, http.MethodDelete, "/orders/"+id, "", nil, &o)
	return o, err
}

// Get returns the order as it is now.
func (s Shop) Get(ctx context.Context, id string) (orders.Order, error) {
	var o Order
	err := s.call(ctx, http.MethodGet, "/orders/"+id, "", nil, &o)
	return o, err
}

// Trail returns an order's trail.
func (s Shop) Trail(ctx context.Context, id string) (*ordertrail.Trail, error) {
	t := new(ordertrail.Trail)
	return t, s.call(ctx, http.MethodGet, "/orders/"+url.PathEscape(id)+"/trail", "", nil, t)
}

// Locate returns the ids of the orders that a trace (32 hex digits) or a span (16) belongs
// to, oldest first.
func (s Shop) Locate(ctx context.Context, id string) (orders []string, err error) {
	query := "/trail?trace="
	if len(id) == 16 {
		query = "/trail?span="
	}
	var located struct{ Orders []struct{ ID string } }
	err = s.call(ctx, http.MethodGet, query+url.QueryEscape(id), "", nil, &located)
	for _, o := range located.Orders {
		orders = append(orders, o.ID)
	}
	return orders, err
}

const pollEvery = 10 * time.Millisecond

// Await polls until the order satisfies until. If ctx ends first, it returns the last
// order that it got, with an error.
func (s Shop) Await(ctx context.Context, id string, until func(orders.Order) bool) (order orders.Order, err error) {
	for {
		now, err := s.Get(ctx, id)
		if err != nil {
			return order, err
		}
		if order = now; until(order) {
			return order, nil
		}
		select {
		case <-ctx.Done():
			return order, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// StatusError is an answer that is not a success.
type StatusError struct {
	Code       int           // the HTTP status
	RetryAfter time.Duration // from the header Retry-After; 0 without it
	text       string
}

func (e *StatusError) Error() string { return e.text }

// maxAnswer bounds an answer, in bytes. A trail may be large.
const maxAnswer = 64 << 20

// call sends a request with body, unless that is nil, and decodes the answer into answer.
func (s Shop) call(ctx context.Context, method, path, key string, body, answer any) error {
	var send bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&send).Encode(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, &send)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	response, err := s.Client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, r.URL, err)
	}
	if response.StatusCode >= 300 {
		problem := struct{ Detail string }{string(got[:min(len(got), 200)])}
		_ = json.Unmarshal(got, &problem)                              // else the answer is not the shop's
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 without the header
		return &StatusError{response.StatusCode, time.Duration(seconds) * time.Second,
			fmt.Sprintf("%s %s: %s: %s", method, r.URL, response.Status, problem.Detail)}
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return fmt.Errorf("%s %s: invalid JSON: %w", method, r.URL, err)
	}
	return nil
}
