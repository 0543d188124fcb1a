package stream

import (
	"context"
	"fmt"
	"time"

	"example.org/ordertrail/internal/event"
)

// Headers of a message schedule.
const (
	scheduleHeader       = "Nats-Schedule"
	scheduleTargetHeader = "Nats-Schedule-Target"
)

// Schedule has the server publish the deadline when it is due, whatever is
// running then: consume it from DEADLINES. A later schedule for the same order
// replaces the one before.
func (c *Client) Schedule(ctx context.Context, d event.Deadline) error {
	m, err := event.Draft{Type: event.DeadlineDue, Payload: d}.Message(time.Now())
	if err != nil {
		return Permanent(err)
	}
	// The server's copy keeps the headers that are not its own: it is the event.
	m.Header[scheduleTargetHeader] = []string{m.Subject}
	// By hand: the client library's option drops the fraction of the second.
	m.Header[scheduleHeader] = []string{"@at " + d.Due.UTC().Format(time.RFC3339Nano)}
	m.Subject = event.DeadlineAt.Subject(d.OrderID)
	ctx, send := c.tracing.StartSend(ctx, m)
	ack, err := c.publish(ctx, send.Msg)
	send.End(ack, err)
	if err != nil {
		return fmt.Errorf("publish %s: %w", event.DeadlineAt, err)
	}
	return nil
}
