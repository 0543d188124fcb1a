package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// idleHeartbeat is how soon a follower notices that its server has gone.
const idleHeartbeat = 2 * time.Second

// stallWait is after how long without a message a follower looks whether one that
// its library does not pass on holds it up; it looks twice.
const stallWait = time.Second

// Follow reads the messages on the filters' subjects in stream order, from
// sequence from on (1: from the beginning), and calls apply for each, one after
// the other: first those that are there, then those that come. There are no
// acks: who restarts reads again.
//
// Follow returns nil when ctx ends, and apply's error if it returns one. It
// outlives servers that are away.
//
// Messages come as they were stored; [EventOf] tells the foreign ones. One without
// a payload and with a header named Status, which the client library takes for the
// server's own word, is passed over.
func (c *Client) Follow(ctx context.Context, filters []string, from uint64, apply func(jetstream.Msg) error) error {
	f := follower{Client: c, filters: filters, next: max(from, 1), apply: apply}
	for {
		err := f.follow(ctx)
		if !errors.Is(err, errHeldUp) {
			return err
		}
		c.log.Error("passed over a stored message that looks like the server's own", "stream", OrdersStream, "sequence", f.next)
		f.next++
	}
}

// follower is one call of Follow.
type follower struct {
	*Client
	filters []string
	next    uint64 // all before it were applied
	apply   func(jetstream.Msg) error
}

// errHeldUp ends follow at a message that is to be passed over.
var errHeldUp = errors.New("held up")

func (f *follower) follow(ctx context.Context) error {
	consumer, err := f.ordered(ctx, f.filters, f.next)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// An iterator, and no callback: after a reconnect the library calls a callback
	// from a new goroutine, while an earlier call may still be under way.
	iterator, err := consumer.Messages(jetstream.PullHeartbeat(idleHeartbeat), jetstream.PullExpiry(4*idleHeartbeat))
	if err != nil {
		return fmt.Errorf("follow %s: %w", OrdersStream, err)
	}
	// While its server is away the iterator takes long to notice that it is
	// stopped. Nobody waits for that: it reads on until then, into nothing.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(ctx, iterator.Stop)
	messages, failed := make(chan jetstream.Msg), make(chan error, 1)
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
	stalled := time.NewTicker(stallWait)
	defer stalled.Stop()
	suspect := uint64(0) // what held it up when it last looked
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
			if err := f.apply(m); err != nil {
				return err
			}
			if meta, err := m.Metadata(); err == nil {
				f.next = meta.Sequence.Stream + 1
			}
			suspect = 0
			stalled.Reset(stallWait)
		case <-stalled.C:
			// The filters are looked at one after the other, perhaps on replicas that lag:
			// what came first may not have been seen. The second time it would be.
			at := f.heldUpAt(ctx)
			if at > 0 && at == suspect {
				f.next = at
				return errHeldUp
			}
			suspect = at
		}
	}
}

// heldUpAt returns the sequence of the next message if the library will not pass it
// on, else 0, also if that cannot be found out now.
func (f *follower) heldUpAt(ctx context.Context) (sequence uint64) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	looksLikeServers := false
	for _, filter := range f.filters {
		m, err := f.get(ctx, map[string]any{"seq": f.next, "next_by_subj": filter})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0
		}
		at, err := strconv.ParseUint(lastValue(m.Header, jetstream.SequenceHeader), 10, 64)
		if err == nil && (sequence == 0 || at < sequence) {
			sequence, looksLikeServers = at, len(m.Data) == 0 && m.Header.Get("Status") != ""
		}
	}
	if !looksLikeServers {
		return 0
	}
	return sequence
}

// ordered makes an ordered consumer, waiting for the stream if need be.
func (c *Client) ordered(ctx context.Context, filters []string, from uint64) (jetstream.Consumer, error) {
	for warned := false; ; {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		consumer, err := c.js.OrderedConsumer(attempt, OrdersStream, jetstream.OrderedConsumerConfig{
			FilterSubjects: filters,
			DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:    max(from, 1),
		})
		cancel()
		if err == nil {
			return consumer, nil
		}
		if !warned {
			c.log.Warn("waiting for the stream: is NATS up, and was `ordertrail provision` run?", "stream", OrdersStream, "error", err)
			warned = true
		}
		if pause(ctx, lookupWait) != nil {
			return nil, fmt.Errorf("follow %s: %w", OrdersStream, err)
		}
	}
}
