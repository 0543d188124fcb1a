package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ordertrail/internal/event"
	"ordertrail/pkg/tracing"
)

// Handler deals with one event, which may have been dealt with before: each of
// its effects must be harmless the second time. An error has the event delivered
// again, one marked Permanent has it given up.
type Handler func(ctx context.Context, e event.Event) error

const (
	workers = 32 // events one replica handles at a time

	// Messages that wait in the client count against AckWait. At worst one waits
	// until all handlers have timed out, and then times out itself: that must come
	// before the server delivers it again elsewhere.
	batch          = workers
	handlerTimeout = 4 * time.Second // 2 × that < defaultAckWait

	// How long the server holds a request for events open, and so how long a
	// replica that is told to stop still waits for it.
	fetchWait = 500 * time.Millisecond

	lookupWait = 500 * time.Millisecond // between looks for a consumer that is not there yet
)

// backoff is how long to wait before the deliveries that follow a failed one;
// the last one goes on.
var backoff = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, time.Second, 5 * time.Second}

// Consume has h handle the durable's events, several at a time and in no
// particular order, shared with every other replica that does the same. Each is
// acknowledged when h has returned nil, and delivered again otherwise.
//
// Each event is handled in a span of its own, linked to its producer's.
//
// Consume runs until ctx ends; then it asks for no more events, lets those that it
// has in hand finish, and returns nil. It waits for a consumer that is not there
// and for servers that are away.
func (c *Client) Consume(ctx context.Context, durable string, h Handler) error {
	consumer, err := c.lookup(ctx, durable)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	// The handlers outlive ctx: it says when to stop taking events, not when to
	// drop those in hand.
	handling := context.WithoutCancel(ctx)
	var busy sync.WaitGroup
	defer busy.Wait()
	slots := make(chan struct{}, workers)
	for ctx.Err() == nil {
		err := fetch(consumer, func(m jetstream.Msg) {
			slots <- struct{}{}
			busy.Go(func() {
				defer func() { <-slots }()
				c.handle(handling, m, h)
			})
		})
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("consume %s: %w", durable, err)
		default:
			c.log.Warn("consuming", "consumer", durable, "error", err)
			_ = pause(ctx, lookupWait) // the loop looks at ctx
		}
	}
	return nil
}

// fetch asks for a batch and calls take for each message as it comes. It always
// waits for the end of its request: whoever leaves earlier leaves messages behind
// that the server has sent already, and will deliver again only after AckWait.
func fetch(consumer jetstream.Consumer, take func(jetstream.Msg)) error {
	messages, err := consumer.Fetch(batch, jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return err
	}
	for m := range messages.Messages() {
		take(m)
	}
	return messages.Error()
}

// lookup finds the durable, which someone with the permission to do so makes.
func (c *Client) lookup(ctx context.Context, durable string) (jetstream.Consumer, error) {
	for warned := false; ; {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		consumer, err := c.js.Consumer(attempt, OrdersStream, durable)
		cancel()
		if err == nil {
			return consumer, nil
		}
		if errors.Is(err, jetstream.ErrInvalidConsumerName) {
			return nil, err
		}
		if !warned {
			c.log.Warn("waiting for the consumer: is NATS up, and was `ordertrail provision` run?", "consumer", durable, "error", err)
			warned = true
		}
		if pause(ctx, lookupWait) != nil {
			return nil, fmt.Errorf("look up consumer %s: %w", durable, err)
		}
	}
}

// handle deals with one delivery, from its span to its settlement.
func (c *Client) handle(ctx context.Context, m jetstream.Msg, h Handler) {
	ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
	defer cancel()
	// The error is on the span and in the log; nobody is left to return it to.
	_ = c.tracing.Process(ctx, m, func(ctx context.Context, m jetstream.Msg) error {
		e, err := EventOf(m)
		if err == nil {
			err = h(ctx, e)
		}
		c.settle(ctx, m, e, err)
		return err
	}, tracing.LinkAttributes(OrderID))
}

// settle tells the server what became of a delivery.
func (c *Client) settle(ctx context.Context, m jetstream.Msg, e event.Event, outcome error) {
	var err error
	switch {
	case outcome == nil:
		err = m.Ack()
	case isPermanent(outcome):
		c.log.ErrorContext(ctx, "gave up an event", "subject", m.Subject(), "sequence", e.Sequence, "delivery", e.Delivery, "error", outcome)
		err = m.TermWithReason(reason(outcome))
	default:
		delay := backoff[min(max(int(e.Delivery), 1), len(backoff))-1]
		c.log.WarnContext(ctx, "will retry an event", "subject", m.Subject(), "sequence", e.Sequence, "delivery", e.Delivery, "in", delay, "error", outcome)
		err = m.NakWithDelay(delay)
	}
	if err != nil {
		// The server will deliver it again after AckWait.
		c.log.WarnContext(ctx, "settle", "subject", m.Subject(), "error", err)
	}
}

// reason fits an error into the one line that a Term may carry.
func reason(err error) string {
	s := err.Error()
	if len(s) > 200 {
		s = s[:200]
	}
	return s
}
