package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// ErrConflict is wrapped by PublishOnce's error when another event came first.
var ErrConflict = errors.New("decided otherwise")

// Conflict is an ErrConflict with the events that came first.
type Conflict struct {
	Events   []event.Event // the guard's, in stream order; none if a foreign message came first
	Sequence uint64        // of the guard's last message
}

func (c *Conflict) Error() string {
	types := make([]string, len(c.Events))
	for i, e := range c.Events {
		types[i] = string(e.Type)
	}
	return fmt.Sprintf("%v: [%s] up to sequence %d", ErrConflict, strings.Join(types, ", "), c.Sequence)
}

// Unwrap returns ErrConflict.
func (c *Conflict) Unwrap() error { return ErrConflict }

// Guard is the condition under which an event is stored: the last message on the
// subjects that match Filter has the sequence Last; 0 means that there is none.
//
// With three replicas a guard holds only if all writers of the group use exactly the
// same Filter: use the functions below.
type Guard struct {
	Filter string
	Last   uint64
	MsgID  string // Nats-Msg-Id, where the guard alone does not make the event unique; default none
}

// First requires that the event is the first of its domain about its order.
func First(t event.Type, id string) Guard { return After(t, id, 0) }

// After requires that the last event of the same domain about the order has this
// sequence.
func After(t event.Type, id string, sequence uint64) Guard {
	return Guard{Filter: t.Domain() + ".*." + id, Last: sequence}
}

// Alone requires that the event is the first on its subject.
func Alone(t event.Type, key string) Guard { return Guard{Filter: t.Subject(key)} }

// Fenced requires that the last lease message has the sequence token, so that only
// the current writer can publish. The guard alone would store a repeated event twice;
// its message id prevents that within the duplicate window.
func Fenced(t event.Type, key string, token uint64) Guard {
	return Guard{Filter: event.StockLease.Subject(event.LeaseKey), Last: token, MsgID: t.Subject(key)}
}

func (g Guard) options() []jetstream.PublishOpt {
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequenceForSubject(g.Last, g.Filter)}
	if g.MsgID != "" {
		opts = append(opts, jetstream.WithMsgID(g.MsgID))
	}
	return opts
}

// Stored is a published event.
type Stored struct {
	event.Event // its Time is the publisher's, not the stream's

	// Duplicate reports that the guard's MsgID was seen in the duplicate window. Then
	// Sequence belongs to that earlier message, which may be another event.
	Duplicate bool
}

// PublishOnce stores an event if its guard holds. It may be called again for the same
// event, by any process at any time: if the event is stored already, even with later
// ones behind it, PublishOnce succeeds.
//
// It returns a [Conflict] if another event came first, and an error marked by
// [Permanent] if the server will never take the event. After any other error the
// outcome is unknown, because ctx ended ([ErrUnavailable]): publish again later.
func (c *Client) PublishOnce(ctx context.Context, d event.Draft, g Guard) (Stored, error) {
	now := time.Now()
	m, err := d.Message(now)
	if err != nil {
		return Stored{}, Permanent(err)
	}
	ctx, send := c.tracing.StartSend(ctx, m)
	ack, err := c.store(ctx, send.Msg, g.options()...)
	if refusal := lostGuard(err); refusal != nil {
		ack, err = c.whoWon(ctx, m.Subject, g, refusal)
	}
	send.End(ack, err)
	if err != nil {
		return Stored{}, fmt.Errorf("publish %s: %w", d.Type, err)
	}
	if c.onStore != nil {
		c.onStore(d.Type, d.Payload.Key())
	}
	return Stored{Duplicate: ack.Duplicate, Event: event.Event{
		Type: d.Type, Key: d.Payload.Key(), Subject: m.Subject, Sequence: ack.Sequence,
		Time: now, Header: send.Msg.Header, Data: m.Data,
	}}, nil
}

// Publish publishes m in a send span, repeatedly until the outcome is known, so m may
// be stored more than once if opts do not prevent it. Its errors are PublishOnce's.
func (c *Client) Publish(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, send := c.tracing.StartSend(ctx, m)
	ack, err := c.store(ctx, send.Msg, opts...)
	send.End(ack, err)
	return ack, err
}

// Codes of the server's answers that the client library does not name.
const (
	errCodeHeaderTooLarge jetstream.ErrorCode = 10097 // over 64 KiB
	errCodeStreamMismatch jetstream.ErrorCode = 10060 // another stream has the subject
)

// store publishes m until the outcome is known. A lost guard is an outcome, see
// lostGuard; so is a message that the server will never take (Permanent).
func (c *Client) store(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	opts = append(opts, jetstream.WithRetryAttempts(0)) // ask retries
	return ask(ctx, func(ctx context.Context) (*jetstream.PubAck, error) {
		ack, err := c.js.PublishMsg(ctx, m, opts...)
		var api *jetstream.APIError
		switch {
		case errors.Is(err, nats.ErrMaxPayload):
			return nil, Permanent(err)
		case errors.As(err, &api):
			switch api.ErrorCode {
			case jetstream.JSErrCodeStreamMessageExceedsMaximum, errCodeHeaderTooLarge, errCodeStreamMismatch:
				return nil, Permanent(err)
			}
			// All else can heal: limits are raised, leaders elected, and a proposal that is
			// in flight on the same guard (10164) or with the same message id (10158) is decided.
		}
		return ack, Plain(err)
	})
}

// lostGuard returns the server's refusal if err means that a guard does not hold.
func lostGuard(err error) *jetstream.APIError {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return api
	}
	return nil
}

// refusedAt returns the sequence of the guard's last message, which the refusal of a lost
// guard contains.
func refusedAt(refusal *jetstream.APIError) (uint64, error) {
	digits := refusal.Description[strings.LastIndexByte(refusal.Description, ' ')+1:]
	sequence, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("refusal %q contains no sequence", refusal.Description)
	}
	return sequence, nil
}

// whoWon returns the position of the event on subject if an earlier attempt stored
// it, else a Conflict. The sequence in the refusal is the last one of the group,
// perhaps of a later event than the one that won, so it reads the group.
func (c *Client) whoWon(ctx context.Context, subject string, g Guard, refusal *jetstream.APIError) (*jetstream.PubAck, error) {
	upTo, err := refusedAt(refusal)
	if err != nil {
		return nil, err
	}
	events, err := c.LastEvents(ctx, upTo, g.Filter)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Subject == subject {
			return &jetstream.PubAck{Stream: OrdersStream, Sequence: e.Sequence}, nil
		}
	}
	return nil, &Conflict{Events: events, Sequence: upTo}
}
