package stream

import (
	"context"
	"fmt"
	"time"

	"example.org/ordertrail/internal/event"
)

// ScheduleMail makes the server publish in MAILS, when it is due, that a mail is to be
// tried again. sent is the type that will record that it was sent. A later schedule for
// the same mail replaces the earlier one.
func (c *Client) ScheduleMail(ctx context.Context, sent event.Type, r event.MailRetry, due time.Time) error {
	return c.schedule(ctx, event.MailAt(sent), event.Draft{Type: event.MailDue(sent), Payload: r}, due)
}

// MailScheduled returns the sequence in MAILS of the last message about a mail: its
// schedule, or the due message that is not acknowledged yet. It returns 0 if there is
// none. It asks the stream's leader, and fails as OrderEvents does.
func (c *Client) MailScheduled(ctx context.Context, sent event.Type, id string) (sequence uint64, err error) {
	// Nearly always no mail waits at all, which all handlers can learn from one answer.
	some, err := ask(ctx, func(ctx context.Context) (uint64, error) {
		return c.waiting.join(ctx, func() (uint64, error) {
			return c.sequenceOf(ctx, MailsStream, map[string]any{"seq": 1, "next_by_subj": "mails.>"})
		})
	})
	if err != nil {
		return 0, fmt.Errorf("ask %s for any mail: %w", MailsStream, err)
	}
	if some == 0 {
		return 0, nil
	}
	return c.lastOn(ctx, MailsStream, event.MailFilter(sent, id))
}
