package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
			return c.mail(ctx, map[string]any{"seq": 1, "next_by_subj": "mails.>"})
		})
	})
	if err != nil {
		return 0, fmt.Errorf("ask %s for any mail: %w", MailsStream, err)
	}
	if some == 0 {
		return 0, nil
	}
	filter := event.MailFilter(sent, id)
	sequence, err = ask(ctx, func(ctx context.Context) (uint64, error) {
		return c.mail(ctx, map[string]any{"last_by_subj": filter})
	})
	if err != nil {
		return 0, fmt.Errorf("ask %s for %s: %w", MailsStream, filter, err)
	}
	return sequence, nil
}

// mail asks the leader of MAILS for one message and returns its sequence, 0 if there is
// none.
func (c *Client) mail(ctx context.Context, request map[string]any) (sequence uint64, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	m, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+MailsStream, body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return 0, err
	}
	if answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return 0, answer.Error
	}
	return answer.Message.Sequence, nil
}
