package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/retry"
)

const (
	idleHeartbeat = 2 * time.Second // how soon a follower notices that its server has gone
	checkWait     = time.Second     // between checks whether a follower still follows the stream
	followBuffer  = 64              // messages that wait to be applied
	stalledChecks = 3               // in a row that find the same message waiting
)

// Follow reads the messages on the filters' subjects in stream order, from a position
// on (the zero Position: all that are stored), and calls apply for one after the other:
// first for those that are stored, then for new ones as they come. There are no acks: a
// caller that restarts reads again.
//
// Follow returns nil when ctx ends, and apply's error if it returns one. It waits for
// servers that are away. It returns [ErrReplaced], and logs it, when its position is not
// in the stream any more: the caller then drops what it folded, and starts over.
//
// apply gets messages as they were stored; [EventOf] detects the foreign ones. A
// message that has no payload but a header named Status is skipped: the client
// library takes it for the server's.
//
// Follow itself leaves out the messages on other subjects: the server sends all of them.
// When a consumer with filters starts in the middle of a stream, the server searches all
// subjects for those that match, which takes seconds at a million orders, and stores
// nothing meanwhile.
func (c *Client) Follow(ctx context.Context, filters []string, from Position, apply func(jetstream.Msg) error) error {
	f := follower{Client: c, filters: filters, at: from, apply: apply}
	defer c.following(nil)
	for {
		err := f.follow(ctx)
		switch {
		case errors.Is(err, errBlocked):
			c.log.Error("skipped a stored message that looks like the server's own", "stream", OrdersStream, "sequence", f.at.Sequence)
			continue
		case errors.Is(err, errStalled):
			c.Duty(DutyFollow, err)
			f.stalled = true
			continue
		case ctx.Err() != nil:
			c.dismiss(DutyFollow)
		case err != nil:
			c.Duty(DutyFollow, err)
		}
		if errors.Is(err, ErrReplaced) {
			c.log.Error("the stream is not the one that was read: starting over", "error", err)
		}
		return err
	}
}

// follower is one call of Follow.
type follower struct {
	*Client
	filters  []string
	at       Position // behind the last message that was applied or skipped
	consumer string   // name of the consumer that at was last verified for
	apply    func(jetstream.Msg) error
	stalled  bool // a consumer delivered nothing; the new one has not delivered either
}

// duty records an error of the fold. The one of a stall stays until a message comes.
func (f *follower) duty(err error) {
	if err != nil || !f.stalled {
		f.Duty(DutyFollow, err)
	}
}

// errBlocked ends follow at a message that was skipped.
var errBlocked = errors.New("blocked by a message that the client library does not pass on")

// errStalled ends follow when its consumer delivers nothing.
var errStalled = errors.New("messages wait that the consumer does not deliver: making a new one")

func (f *follower) follow(ctx context.Context) error {
	// A consumer that starts behind the end of the stream would wait without an error.
	if err := f.verified(ctx); err != nil {
		return err
	}
	consumer, err := retry.Forever(ctx, lookupWait, retry.Silent, func(ctx context.Context) (jetstream.Consumer, error) {
		consumer, err := f.js.OrderedConsumer(ctx, OrdersStream, jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:   f.at.Sequence + 1,
		})
		f.duty(err)
		return consumer, err
	})
	if err != nil {
		return nil // ctx has ended
	}
	// An iterator, not a callback: after a reconnect the library calls a callback from
	// a new goroutine, while an earlier call may still be running.
	iterator, err := consumer.Messages(jetstream.PullHeartbeat(idleHeartbeat), jetstream.PullExpiry(4*idleHeartbeat))
	if err != nil {
		return fmt.Errorf("follow %s: %w", OrdersStream, err)
	}
	// While its server is away, the iterator notices only late that it was stopped.
	// Follow does not wait for that: the goroutine ends when the iterator does.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(ctx, iterator.Stop)
	// The buffer saves a change of goroutines for each message while there are many.
	messages, failed := make(chan jetstream.Msg, followBuffer), make(chan error, 1)
	go func() {
		for {
			m, err := iterator.Next()
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	check := time.NewTicker(f.checkWait)
	defer check.Stop()
	idle, stalled := false, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow %s: %w", OrdersStream, err)
		case m := <-messages:
			if err := f.next(ctx, m); err != nil || ctx.Err() != nil {
				return err
			}
			idle, stalled = false, 0
		case <-check.C:
			err := f.check(ctx)
			if errors.Is(err, ErrReplaced) {
				return err
			}
			if err != nil || !idle || len(messages) > 0 {
				f.duty(err)
				idle, stalled = true, 0
				continue
			}
			at, blocked := f.waiting(ctx)
			if at == 0 {
				f.stalled = false
				f.duty(nil)
				stalled = 0
				continue
			}
			if blocked {
				f.at = Position{Created: f.at.Created, Sequence: at}
				return errBlocked
			}
			// After an outage the library pauses for up to ten seconds between its attempts to
			// make a consumer. Until a message comes, the reason of the outage stays.
			if stalled++; stalled == stalledChecks {
				return errStalled
			}
		}
	}
}

// next applies a message on one of the filters' subjects. The client library replaces a
// consumer that is gone by one that starts behind the last message; but the stream may have
// been replaced, too. So the first message of each consumer is applied only after the
// position is verified.
func (f *follower) next(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("follow %s: %w", OrdersStream, err)
	}
	if meta.Consumer != f.consumer {
		if err := f.verified(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		f.consumer = meta.Consumer
	}
	f.stalled = false
	m = parsed{m, meta}
	if slices.ContainsFunc(f.filters, func(filter string) bool { return matches(filter, m.Subject()) }) {
		if err := f.apply(m); err != nil {
			return err
		}
	}
	f.at = f.at.After(m)
	return nil
}

// parsed is a message whose metadata is not parsed once more by each reader.
type parsed struct {
	jetstream.Msg
	meta *jetstream.MsgMetadata
}

func (m parsed) Metadata() (*jetstream.MsgMetadata, error) { return m.meta, nil }

// matches reports whether a subject matches a filter, which consists of tokens and *.
func matches(filter, subject string) bool {
	for {
		wanted, nextWanted, more := strings.Cut(filter, ".")
		token, nextToken, moreTokens := strings.Cut(subject, ".")
		if wanted != token && wanted != "*" || more != moreTokens {
			return false
		}
		if !more {
			return true
		}
		filter, subject = nextWanted, nextToken
	}
}

// verified verifies the position. It waits for NATS until ctx ends; then it returns nil.
func (f *follower) verified(ctx context.Context) error {
	_, err := retry.Forever(ctx, lookupWait, retry.Silent, func(ctx context.Context) (any, error) {
		err := f.check(ctx)
		if errors.Is(err, ErrReplaced) {
			return nil, backoff.Permanent(err)
		}
		f.duty(err)
		return nil, err
	})
	if errors.Is(err, ErrReplaced) {
		return err
	}
	return nil
}

// check verifies the position, and records it for Ready. A position of no stream
// becomes one of the present stream.
func (f *follower) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	extent, err := f.verify(ctx, f.at)
	if err == nil {
		f.at.Created = extent.Created
		at := f.at
		f.following(&at)
	}
	return err
}

// waiting returns the sequence of the next message, and whether it is blocked: the client
// library does not pass it on. It returns 0 if there is none, or the server does not answer.
func (f *follower) waiting(ctx context.Context) (sequence uint64, blocked bool) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	m, err := f.message(ctx, map[string]any{"seq": f.at.Sequence + 1, "next_by_subj": ">"})
	if err != nil {
		return 0, false
	}
	sequence, err = strconv.ParseUint(lastValue(m.Header, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0, false
	}
	return sequence, len(m.Data) == 0 && m.Header.Get("Status") != ""
}
