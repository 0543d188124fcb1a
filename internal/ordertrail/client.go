package ordertrail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Client reads trails from the shop's API.
type Client struct {
	URL  string // of the shop
	HTTP *http.Client
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 20

// Trail returns an order's trail.
func (c Client) Trail(ctx context.Context, order string) (*Trail, error) {
	t := new(Trail)
	return t, c.get(ctx, "/orders/"+url.PathEscape(order)+"/trail", t)
}

// Orders returns the ids of the orders that a trace (32 hex digits) or a span (16)
// belongs to, oldest first. It returns at least one, or an error.
func (c Client) Orders(ctx context.Context, id string) ([]string, error) {
	query := "/trail?trace="
	if len(id) == 16 {
		query = "/trail?span="
	}
	var located struct {
		Orders []struct {
			ID string `json:"id"`
		} `json:"orders"`
	}
	if err := c.get(ctx, query+url.QueryEscape(id), &located); err != nil {
		return nil, err
	}
	if len(located.Orders) == 0 {
		return nil, errors.New("it belongs to no order")
	}
	var ids []string
	for _, o := range located.Orders {
		ids = append(ids, o.ID)
	}
	return ids, nil
}

func (c Client) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := c.HTTP.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("GET %s%s: %w", c.URL, path, err)
	}
	if answer.StatusCode != http.StatusOK {
		var problem struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
			problem.Detail = string(body[:min(len(body), 200)])
		}
		return fmt.Errorf("GET %s%s: %s: %s", c.URL, path, answer.Status, problem.Detail)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s%s: invalid JSON: %w", c.URL, path, err)
	}
	return nil
}
