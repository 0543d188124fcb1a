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

const (
	idleHeartbeat = 2 * time.Second // how soon a follower notices that its server has gone
	blockedWait   = time.Second     // without a message, until a follower checks whether one blocks it
)

// Follow reads the messages on the filters' subjects in stream order, from the
// sequence from on (1: all), and calls apply for one after the other: first for those
// that are stored, then for new ones as they come. There are no acks: a caller that
// restarts reads again.
//
// Follow returns nil when ctx ends, and apply's error if it returns one. It waits for
// servers that are away.
//
// apply gets messages as they were stored; [EventOf] detects the foreign ones. A
// message that has no payload but a header named Status is skipped: the client
// library takes it for the server's.
func (c *Client) Follow(ctx context.Context, filters []string, from uint64, apply func(jetstream.Msg) error) error {
	f := follower{Client: c, filters: filters, next: max(from, 1), apply: apply}
	for {
		err := f.follow(ctx)
		if !errors.Is(err, errBlocked) {
			return err
		}
		c.log.Error("skipped a stored message that looks like the server's own", "stream", OrdersStream, "sequence", f.next)
		f.next++
	}
}

// follower is one call of Follow.
type follower struct {
	*Client
	filters []string
	next    uint64 // all messages before it were applied
	apply   func(jetstream.Msg) error
}

// errBlocked ends follow at a message that must be skipped.
var errBlocked = errors.New("blocked by a message that the client library does not pass on")

func (f *follower) follow(ctx context.Context) error {
	consumer, err := retry.Forever(ctx, lookupWait, func(err error) {
		f.log.Warn("waiting for the stream: is NATS up, and was `ordertrail provision` run?", "stream", OrdersStream, "error", err)
	}, func(ctx context.Context) (jetstream.Consumer, error) {
		return f.js.OrderedConsumer(ctx, OrdersStream, jetstream.OrderedConsumerConfig{
			FilterSubjects: f.filters,
			DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:    f.next,
		})
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
	stalled := time.NewTicker(f.blockedWait)
	defer stalled.Stop()
	suspect := uint64(0) // the sequence that blocked at the last check
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
			stalled.Reset(f.blockedWait)
		case <-stalled.C:
			// Skip only what two checks in a row have found. One check asks for each filter
			// in turn, perhaps a replica that lags, and may miss a message that comes before.
			at := f.blockedAt(ctx)
			if at > 0 && at == suspect {
				f.next = at
				return errBlocked
			}
			suspect = at
		}
	}
}

// blockedAt returns the sequence of the next message if the client library does not
// pass it on. Otherwise, or if the server does not answer, it returns 0.
func (f *follower) blockedAt(ctx context.Context) (sequence uint64) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	blocks := false
	for _, filter := range f.filters {
		m, err := f.message(ctx, map[string]any{"seq": f.next, "next_by_subj": filter})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0
		}
		at, err := strconv.ParseUint(lastValue(m.Header, jetstream.SequenceHeader), 10, 64)
		if err == nil && (sequence == 0 || at < sequence) {
			sequence, blocks = at, len(m.Data) == 0 && m.Header.Get("Status") != ""
		}
	}
	if !blocks {
		return 0
	}
	return sequence
}
