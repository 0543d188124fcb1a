package stream

import (
	"context"
	"fmt"
	"time"

	"example.org/ordertrail/internal/event"
)

// Schedule makes the server publish the deadline in DEADLINES when it is due, even
// if no service is running then. A later schedule for the same order replaces the
// earlier one.
func (c *Client) Schedule(ctx context.Context, d event.Deadline) error {
	m, err := event.Draft{Type: event.DeadlineDue, Payload: d}.Message(time.Now())
	if err != nil {
		return Permanent(err)
	}
	// The server's copy keeps all headers but those of the schedule: it is the event.
	m.Header["Nats-Schedule-Target"] = []string{m.Subject}
	// Not with the client library's option, which drops the fraction of the second.
	m.Header["Nats-Schedule"] = []string{"@at " + d.Due.UTC().Format(time.RFC3339Nano)}
	m.Subject = event.DeadlineAt.Subject(d.OrderID)
	if _, err := c.Publish(ctx, m); err != nil {
		return fmt.Errorf("publish %s: %w", event.DeadlineAt, err)
	}
	return nil
}
