package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// idleHeartbeat is how soon a follower notices that its server has gone.
const idleHeartbeat = 2 * time.Second

// Follow reads the messages on the filters' subjects in stream order, from
// sequence from on (1: from the beginning), and calls apply for each, one after
// the other: first those that are there, then those that come. There are no
// acks: who restarts reads again.
//
// Follow returns nil when ctx ends, and apply's error if it returns one. It
// outlives servers that are away.
//
// Messages come as they were stored; [EventOf] tells the foreign ones.
func (c *Client) Follow(ctx context.Context, filters []string, from uint64, apply func(jetstream.Msg) error) error {
	consumer, err := c.ordered(ctx, filters, from)
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
			if err := apply(m); err != nil {
				return err
			}
		}
	}
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
