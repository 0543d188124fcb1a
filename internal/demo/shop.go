package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

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
	return s.call(ctx, http.MethodPost, "/orders", key, sc.Request())
}

// Cancel asks to cancel the order.
func (s Shop) Cancel(ctx context.Context, id string) (orders.Order, error) {
	return s.call(ctx, http.MethodDelete, "/orders/"+id, "", nil)
}

// Get returns the order as it is now.
func (s Shop) Get(ctx context.Context, id string) (orders.Order, error) {
	return s.call(ctx, http.MethodGet, "/orders/"+id, "", nil)
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

func (s Shop) call(ctx context.Context, method, path, key string, body any) (o orders.Order, err error) {
	var send io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return o, err
		}
		send = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, send)
	if err != nil {
		return o, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	answer, err := s.Client.Do(r)
	if err != nil {
		return o, err
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return o, err
	}
	if answer.StatusCode >= 300 {
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // 0 without the header
		return o, &StatusError{answer.StatusCode, time.Duration(seconds) * time.Second,
			fmt.Sprintf("%s %s: %s: %s", method, path, answer.Status, bytes.TrimSpace(got))}
	}
	return o, json.Unmarshal(got, &o)
}
