package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/retry"
)

// Position is a place in the stream ORDERS: behind the message with the sequence
// Sequence. It also identifies the stream and that message, because sequences repeat
// in a stream that was created again, wiped, or restored to an earlier state.
type Position struct {
	Created  time.Time `json:"stream_created"` // when the stream was created
	Sequence uint64    `json:"sequence"`       // 0: before the first message
	Time     time.Time `json:"time"`           // when the message was stored; zero: unknown, and not verified
}

// ErrReplaced is wrapped by errors about a position that is not in the stream: the
// stream is another one, or it has lost its newest messages. State that was folded up
// to that position is invalid.
var ErrReplaced = errors.New("stream " + OrdersStream + " was replaced")

// Extent describes the stream ORDERS at some time.
type Extent struct {
	Created time.Time
	First   uint64 // sequence of the oldest message; 1 more than Last if there is none
	Last    uint64 // sequence of the newest message; 0 if there was never one
}

// Start returns the position before all messages.
func (e Extent) Start() Position { return Position{Created: e.Created} }

// End returns the position behind all messages. It is not verified to the time of the
// last one.
func (e Extent) End() Position { return Position{Created: e.Created, Sequence: e.Last} }

// Extent asks the leader of ORDERS. It fails as OrderEvents does.
func (c *Client) Extent(ctx context.Context) (Extent, error) {
	e, err := ask(ctx, c.extent)
	if err != nil {
		return Extent{}, fmt.Errorf("ask for the extent of %s: %w", OrdersStream, err)
	}
	return e, nil
}

// AwaitExtent is Extent for a service that starts to follow the stream. It waits until
// the stream exists; meanwhile the service is not ready. It fails only when ctx ends.
func (c *Client) AwaitExtent(ctx context.Context) (Extent, error) {
	return retry.Forever(ctx, lookupWait, retry.Silent, func(ctx context.Context) (Extent, error) {
		e, err := c.extent(ctx)
		if err != nil {
			c.Duty(DutyFollow, err)
		}
		return e, err
	})
}

func (c *Client) extent(ctx context.Context) (Extent, error) {
	s, err := c.js.Stream(ctx, OrdersStream)
	if err != nil {
		return Extent{}, missing("stream "+OrdersStream, err)
	}
	info := s.CachedInfo()
	return Extent{info.Created, max(info.State.FirstSeq, 1), info.State.LastSeq}, nil
}

// After returns the position behind a message that was read after p.
func (p Position) After(m jetstream.Msg) Position {
	if meta, err := m.Metadata(); err == nil {
		p.Sequence, p.Time = meta.Sequence.Stream, meta.Timestamp.UTC()
	}
	return p
}

// Verify returns an error that wraps ErrReplaced if a position is not in the stream,
// and another one if NATS does not answer. A position without Created is in any stream.
func (c *Client) Verify(ctx context.Context, p Position) error {
	_, err := c.verify(ctx, p)
	return err
}

func (c *Client) verify(ctx context.Context, p Position) (Extent, error) {
	e, err := ask(ctx, c.extent)
	if err != nil {
		return e, fmt.Errorf("verify position %d of %s: %w", p.Sequence, OrdersStream, err)
	}
	switch {
	case !p.Created.IsZero() && !p.Created.Equal(e.Created):
		return e, fmt.Errorf("%w: it was created at %s, not at %s", ErrReplaced, stamp(e.Created), stamp(p.Created))
	case p.Sequence > e.Last:
		return e, fmt.Errorf("%w: it ends at sequence %d, and was read up to %d", ErrReplaced, e.Last, p.Sequence)
	case p.Time.IsZero():
		return e, nil
	case e.First > p.Sequence+1:
		return e, fmt.Errorf("%w: it begins at sequence %d, and was read up to %d", ErrReplaced, e.First, p.Sequence)
	case e.First > p.Sequence: // the message is gone, and nothing behind it
		return e, nil
	}
	// A replica that lags answers that there is no such message; then ask asks again.
	stored, err := ask(ctx, func(ctx context.Context) (time.Time, error) {
		m, err := c.message(ctx, map[string]any{"seq": p.Sequence})
		if err != nil {
			return time.Time{}, err
		}
		if at := lastValue(m.Header, jetstream.SequenceHeader); at != strconv.FormatUint(p.Sequence, 10) {
			return time.Time{}, fmt.Errorf("message %d was asked for, %q was sent", p.Sequence, at)
		}
		return time.Parse(time.RFC3339Nano, lastValue(m.Header, jetstream.TimeStampHeaer))
	})
	switch {
	case err != nil:
		return e, fmt.Errorf("verify position %d of %s: %w", p.Sequence, OrdersStream, err)
	case !stored.Equal(p.Time):
		return e, fmt.Errorf("%w: its message %d was stored at %s, and the one that was read at %s", ErrReplaced, p.Sequence, stamp(stored), stamp(p.Time))
	}
	return e, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
