package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

const (
	seedPatience   = 10 * time.Second // for an inventory that is starting
	seedWait       = 50 * time.Millisecond
	restockTimeout = 15 * time.Second
)

// errNotSeeded is returned by Restock before inventory has published the first stock,
// whose place the new units would take.
var errNotSeeded = errors.New("no first stock yet: start inventory, then try again")

// Restock adds units of a product to the stock. It fails if inventory does not publish
// the product's first stock within 10 s. After any other error the units may have
// been added or not.
func Restock(ctx context.Context, c *stream.Client, sku string, units int) error {
	ctx, cancel := context.WithTimeout(ctx, restockTimeout)
	defer cancel()
	if units < 1 || units > event.MaxQuantity {
		return fmt.Errorf("restock %s: %d units: want 1 to %d", sku, units, event.MaxQuantity)
	}
	d := event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: sku, Quantity: units}}
	m, err := d.Message(time.Now())
	if err != nil {
		return err
	}
	_, err = backoff.Retry(ctx, func() (any, error) {
		seeded, err := c.LastEvents(ctx, 0, d.Subject())
		if err == nil && len(seeded) == 0 {
			return nil, errNotSeeded
		}
		return nil, backoff.Permanent(err)
	}, backoff.WithBackOff(backoff.NewConstantBackOff(seedWait)), backoff.WithMaxElapsedTime(seedPatience))
	if err == nil {
		_, err = c.Publish(ctx, m, jetstream.WithMsgID("restock/"+nuid.Next()))
	}
	if err != nil {
		return fmt.Errorf("restock %s: %w", sku, err)
	}
	return nil
}
