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
	return c.schedule(ctx, event.DeadlineAt, event.Draft{Type: event.DeadlineDue, Payload: d}, d.Due)
}

// schedule publishes a message of type at that makes the server publish d when it is due.
func (c *Client) schedule(ctx context.Context, at event.Type, d event.Draft, due time.Time) error {
	m, err := d.Message(time.Now())
	if err != nil {
		return Permanent(err)
	}
	// The server's copy keeps all headers but those of the schedule: it is the event.
	m.Header["Nats-Schedule-Target"] = []string{m.Subject}
	// Not with the client library's option, which drops the fraction of the second.
	m.Header["Nats-Schedule"] = []string{"@at " + due.UTC().Format(time.RFC3339Nano)}
	m.Subject = at.Subject(d.Payload.Key())
	if _, err := c.Publish(ctx, m); err != nil {
		return fmt.Errorf("publish %s: %w", at, err)
	}
	return nil
}
