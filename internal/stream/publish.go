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
	"github.com/nats-io/nuid"

	"example.org/ordertrail/internal/event"
)

// ErrConflict is wrapped by PublishOnce when the guard was lost to another event.
var ErrConflict = errors.New("decided otherwise")

// Conflict is that error with what holds the place.
type Conflict struct {
	Events   []event.Event // the guard's, in stream order; none if a foreign message holds the place
	Sequence uint64        // of the last message of the guard
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

const (
	publishTimeout = time.Second          // for one attempt; the caller's context bounds all of them
	inFlightWait   = 2 * time.Millisecond // another proposal on the same guard is under way
	unknownWait    = 50 * time.Millisecond
)

// Guard is the condition under which an event may be stored: the last message on
// a subject that matches Filter has sequence Last, 0 for none.
//
// With three replicas a guard holds only if every writer of the group uses the
// same Filter to the letter; the constructors below are these filters.
type Guard struct {
	Filter string
	Last   uint64
	MsgID  string // Nats-Msg-Id, for what the guard alone does not make unique; "" for none
}

// First lets an event in if it is the first of its domain about its order.
func First(t event.Type, id string) Guard { return After(t, id, 0) }

// After lets an event in if the last of its domain about its order is the one
// under sequence.
func After(t event.Type, id string, sequence uint64) Guard {
	return Guard{Filter: t.Domain() + ".*." + id, Last: sequence}
}

// Alone lets an event in if it is the first on its very subject.
func Alone(t event.Type, key string) Guard { return Guard{Filter: t.Subject(key)} }

// Fenced lets an event in while the last lease message is the one under token:
// from its publisher, and from no writer before it. Any number of events may
// follow each other under one token, so the guard does not tell an event from its
// repetition; the message id does, within the duplicate window.
func Fenced(t event.Type, key string, token uint64) Guard {
	return Guard{Filter: event.StockLease.Subject(event.LeaseKey), Last: token, MsgID: t.Subject(key)}
}

// Stored is a published event, and where it is.
type Stored struct {
	event.Event // its Time is the publisher's, not the stream's

	// Duplicate: the guard's MsgID was seen within the duplicate window, and
	// Sequence is that earlier message's, which may be another event.
	Duplicate bool
}

// PublishOnce stores an event if its guard holds, and only then. It may be
// called again for the same event, by whoever and whenever: an event that is
// there already, even with later ones behind it, is a success.
//
// It returns a [Conflict] if another event holds the place, and an error that is
// Permanent if the server will never take it. With any other error the outcome
// was still unknown when ctx ended, and it is [ErrUnavailable] if there was time
// to ask: publish again later.
func (c *Client) PublishOnce(ctx context.Context, d event.Draft, g Guard) (Stored, error) {
	now := time.Now()
	m, err := d.Message(now)
	if err != nil {
		return Stored{}, Permanent(err)
	}
	ctx, send := c.tracing.StartSend(ctx, m)
	ack, err := c.publish(ctx, send.Msg, g.options()...)
	if refusal := lostGuard(err); refusal != nil {
		ack, err = c.lost(ctx, m.Subject, g, refusal)
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

// Fence publishes a lease message, which shuts out every writer that holds an
// earlier one's sequence, and returns its own sequence: the fencing token.
func (c *Client) Fence(ctx context.Context, l event.Lease) (token uint64, err error) {
	m, err := event.Draft{Type: event.StockLease, Payload: l}.Message(time.Now())
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	// Without retry: whether it was stored or not, the next term has its own.
	ack, err := c.js.PublishMsg(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("publish the lease message: %w", err)
	}
	return ack.Sequence, nil
}

// seedPatience is how long Restock waits for an inventory that is starting.
const seedPatience = 10 * time.Second

// Restock adds units of an SKU to the stock. It fails before inventory has seeded
// the first stock, whose place it would take. Other errors leave open whether it
// did.
func (c *Client) Restock(ctx context.Context, sku string, units int) error {
	for until := time.Now().Add(seedPatience); ; {
		seeded, err := c.last(ctx, 0, event.StockAdded.Subject(sku))
		if err == nil && len(seeded) > 0 {
			break
		}
		if err == nil && time.Now().After(until) {
			err = errors.New("there is no first stock yet: start inventory, then try again")
		}
		if err != nil {
			return fmt.Errorf("restock %s: %w", sku, err)
		}
		if err := pause(ctx, unknownWait); err != nil {
			return fmt.Errorf("restock %s: %w", sku, err)
		}
	}
	d := event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: sku, Quantity: units}}
	m, err := d.Message(time.Now())
	if err != nil {
		return err
	}
	if _, err := c.tracing.Publish(ctx, c.js, m, jetstream.WithMsgID("restock/"+nuid.Next())); err != nil {
		return fmt.Errorf("restock %s: %w", sku, err)
	}
	return nil
}

func (g Guard) options() []jetstream.PublishOpt {
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequenceForSubject(g.Last, g.Filter)}
	if g.MsgID != "" {
		opts = append(opts, jetstream.WithMsgID(g.MsgID))
	}
	return opts
}

// publish tries until the outcome is known. A guard that does not hold is an
// outcome, see lostGuard.
func (c *Client) publish(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	opts = append(opts, jetstream.WithRetryAttempts(0)) // this loop retries
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		ack, err := c.js.PublishMsg(attempt, m, opts...)
		cancel()
		if err == nil {
			return ack, nil
		}
		wait := unknownWait
		var api *jetstream.APIError
		if errors.As(err, &api) {
			switch api.ErrorCode {
			case jetstream.JSErrCodeStreamWrongLastSequence:
				return nil, err
			case jetstream.JSErrCodeStreamWrongLastSequenceConstant, errCodeMsgIDInFlight:
				wait = inFlightWait
			case jetstream.JSErrCodeStreamMessageExceedsMaximum, errCodeHeaderTooLarge, errCodeStreamMismatch:
				return nil, Permanent(err) // all else can heal: limits are raised, leaders elected
			}
		} else if errors.Is(err, nats.ErrMaxPayload) {
			return nil, Permanent(err)
		} else if errors.Is(err, nats.ErrConnectionClosed) {
			return nil, err
		}
		if ctx.Err() != nil || pause(ctx, wait) != nil {
			return nil, fmt.Errorf("outcome unknown: %w", unavailable(err))
		}
	}
}

// lostGuard returns the server's refusal if err is that a guard does not hold.
func lostGuard(err error) *jetstream.APIError {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return api
	}
	return nil
}

// Answers that the client library has no name for.
const (
	errCodeMsgIDInFlight  jetstream.ErrorCode = 10158 // a message with the same Nats-Msg-Id is being stored (replicated streams only)
	errCodeHeaderTooLarge jetstream.ErrorCode = 10097 // over 64 KiB
	errCodeStreamMismatch jetstream.ErrorCode = 10060 // another stream has the subject
)

// lost finds out to whom a guard was lost. The sequence in the refusal is the
// last one of the group, perhaps of a later event than the one that won, so the
// group is read back: if this very event is there, some earlier try stored it.
func (c *Client) lost(ctx context.Context, subject string, g Guard, refusal *jetstream.APIError) (*jetstream.PubAck, error) {
	digits := refusal.Description[strings.LastIndexByte(refusal.Description, ' ')+1:]
	upTo, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("refusal %q names no sequence", refusal.Description)
	}
	events, err := c.last(ctx, upTo, g.Filter)
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
