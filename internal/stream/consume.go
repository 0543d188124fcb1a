package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/retry"
	"example.org/ordertrail/pkg/tracing"
)

const (
	workers        = 32                     // events that one replica handles at a time
	handlerTimeout = 4 * time.Second        // with effectTimeout less than defaultAckWait
	effectTimeout  = 2 * time.Second        // see AfterEffect
	fetchWait      = 500 * time.Millisecond // of one request for events; Consume waits for its end when it stops
	lookupWait     = 500 * time.Millisecond // between attempts to find a consumer

	maxDeliveries = 5   // of an event; then it becomes a dead letter
	maxTermReason = 200 // bytes of an error that a Term carries
)

// retryDelays are the waits before the deliveries that follow a failed one. The last
// one is used for all further deliveries.
var retryDelays = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}

func retryDelay(failures int) time.Duration {
	return retryDelays[min(max(failures, 1), len(retryDelays))-1]
}

// Consume handles the durable's events with its handlers, several at a time and in no
// particular order. All replicas that call Consume share the events. An event is
// acknowledged when its handler returns nil; otherwise it is delivered again, five
// times in all, then it becomes a dead letter: see [Client.DeadLetters].
//
// Each event is handled in a span of its own, which links the producer's span; if an
// operator has sent the event again, also the span that failed.
//
// Consume runs until ctx ends. Then it requests no more events, waits for the handlers
// that are running, and returns nil. It waits for a consumer that does not exist yet
// and for servers that are away. It may run once for each stream.
func (c *Client) Consume(ctx context.Context, d Durable) error {
	c.duties.mu.Lock()
	c.duties.durables[d.Stream] = d
	c.duties.mu.Unlock()
	duty := dutyConsume + d.Stream
	consumer, err := retry.Forever(ctx, lookupWait, retry.Silent, func(ctx context.Context) (jetstream.Consumer, error) {
		consumer, err := c.consumer(ctx, d)
		c.Duty(duty, err)
		return consumer, err
	})
	if err != nil {
		return nil // ctx has ended
	}
	busy := make(chan struct{}, workers) // holds one value for each busy worker
	deliveries := make(chan delivery)
	var running sync.WaitGroup
	defer running.Wait()
	defer close(deliveries)
	// The workers stay, because the stack of a new goroutine would have to grow for
	// each event.
	for range workers {
		running.Go(func() {
			for m := range deliveries {
				c.deliver(ctx, m.Msg, d, m.epoch)
				<-busy
			}
		})
	}
	for ctx.Err() == nil {
		busy <- struct{}{} // wait until a worker is idle
		<-busy
		// Never fetch more than there are idle workers: an event that waited in this
		// process would be delivered to another one as well, and handled twice at a time.
		messages, err := consumer.Fetch(workers-len(busy), jetstream.FetchMaxWait(fetchWait))
		if err == nil {
			// Read to the end, even when ctx has ended: messages that the server has
			// already sent would be delivered again only after AckWait.
			for m := range messages.Messages() {
				busy <- struct{}{}
				deliveries <- delivery{m, c.epoch()}
			}
			err = messages.Error()
		}
		switch {
		case ctx.Err() != nil:
		case err == nil && !c.nc.IsConnected():
			// A fetch without a connection ends without an error. Ready has the reason.
		case err == nil:
			c.Duty(duty, nil)
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("consume %s: %w", d.Name, err)
		default:
			// The error of a fetch does not name the reason, such as a missing consumer.
			if _, missing := c.consumer(ctx, d); missing != nil {
				err = missing
			}
			c.Duty(duty, err)
			c.upheavals.Add(1)
			_ = pause(ctx, lookupWait) // the loop checks ctx
		}
	}
	return nil
}

// delivery is a message that was fetched in an epoch.
type delivery struct {
	jetstream.Msg
	epoch uint64
}

// AfterEffect returns a context for the steps that must follow an effect outside:
// publishing it, or undoing it. It does not end with the handler's ctx, but has 2 s
// of its own: no other process knows of the effect.
func AfterEffect(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), effectTimeout)
}

// deliver processes one delivery, or the messages that a test puts in its place.
func (c *Client) deliver(stopping context.Context, m jetstream.Msg, d Durable, epoch uint64) {
	messages := []jetstream.Msg{m}
	if c.onDeliver != nil {
		messages = c.onDeliver(d.Name, m)
	}
	for _, m := range messages {
		c.process(stopping, m, d, epoch)
	}
}

// epoch changes when the stream may have been replaced: after a new connection, and
// after a fetch that failed.
func (c *Client) epoch() uint64 { return c.upheavals.Load() + c.nc.Stats().Reconnects }

// process handles one delivery in a span and settles it. The end of stopping only
// ends the wait for NATS: a handler that runs is never cut off by it.
func (c *Client) process(stopping context.Context, m jetstream.Msg, d Durable, epoch uint64) {
	// The error is recorded in the span and logged by settle.
	_ = c.tracing.Process(context.WithoutCancel(stopping), m, func(ctx context.Context, m jetstream.Msg) error {
		if len(m.Headers()[spanHeader]) > 0 {
			trace.SpanFromContext(ctx).AddLink(c.failure(m))
		}
		e, err := c.try(ctx, m, d, false)
		// While NATS cannot answer or store, redeliveries would only use up the event's
		// deliveries, and sound events would become dead letters.
		for tries := 1; errors.Is(err, ErrUnavailable); tries++ {
			c.log.WarnContext(ctx, "cannot handle an event yet", "subject", m.Subject(), "tries", tries, "error", err)
			if pause(stopping, retryDelay(tries)) != nil {
				break
			}
			if lost := c.lost(ctx, m); errors.Is(lost, ErrReplaced) {
				c.log.ErrorContext(ctx, "dropped a message that the stream no longer has", "subject", m.Subject(), "error", lost)
				return lost
			}
			_ = m.InProgress() // if it fails, the event is delivered elsewhere too, which is harmless
			e, err = c.try(ctx, m, d, true)
		}
		// An acknowledgement contains only a sequence. In a stream that was replaced, it
		// would settle another message, which may not be handled yet.
		if !c.nc.IsConnected() || c.epoch() != epoch {
			if lost := c.lost(ctx, m); lost != nil {
				c.log.WarnContext(ctx, "left a message unsettled; if the stream has it, it is delivered again", "subject", m.Subject(), "error", lost)
				return err
			}
		}
		c.settle(ctx, m, e, err, d)
		return err
	}, tracing.WithConsumerGroup(d.Name), tracing.WithLinkAttributes(OrderID))
}

// lost returns an error that wraps ErrReplaced if a message of ORDERS was delivered by a
// stream that was replaced since: reads that wait for its sequence would wait for ever.
// It returns another error if NATS does not answer.
func (c *Client) lost(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil || meta.Stream != OrdersStream {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return c.Verify(ctx, Position{}.After(m))
}

// try calls the handler for a delivery.
func (c *Client) try(ctx context.Context, m jetstream.Msg, d Durable, again bool) (event.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
	defer cancel()
	e, err := c.delivered(ctx, m)
	if err != nil {
		return e, err
	}
	if e.Delivery > maxDeliveries {
		return e, errUnfinished
	}
	e.Retry = again
	return e, d.handle(ctx, e)
}

// delivered converts a delivery. For an event that an operator has sent again it
// reads the original from the stream, so that the copy need not be trusted.
func (c *Client) delivered(ctx context.Context, m jetstream.Msg) (event.Event, error) {
	_, subject, redriven := event.CutRedrive(m.Subject())
	if !redriven {
		e, err := EventOf(m)
		e.Redriven = len(m.Headers()[spanHeader]) > 0 // in the other streams, on its own subject
		return e, err
	}
	if _, _, err := event.ParseSubject(subject); err != nil {
		return event.Event{}, fmt.Errorf("%w: %w", event.ErrForeign, err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return event.Event{}, fmt.Errorf("read the metadata of %s: %w", m.Subject(), err)
	}
	// The copy's own subject gives the read a sequence to wait for, so that it ends
	// even if the original does not exist.
	events, err := c.LastEvents(ctx, meta.Sequence.Stream, subject, m.Subject())
	if err != nil {
		return event.Event{}, err
	}
	if len(events) == 0 {
		return event.Event{}, fmt.Errorf("%w: %s was sent again, but never stored", event.ErrForeign, subject)
	}
	e := events[0]
	e.Delivery, e.Redriven = meta.NumDelivered, true
	return e, nil
}

// settle reports the outcome of a delivery to the server.
func (c *Client) settle(ctx context.Context, m jetstream.Msg, e event.Event, outcome error, d Durable) {
	log := func() *slog.Logger { // most deliveries log nothing
		return c.log.With("subject", m.Subject(), "sequence", e.Sequence, "delivery", e.Delivery)
	}
	unavailable := errors.Is(outcome, ErrUnavailable) // and this replica is stopping
	var err error
	switch {
	case outcome == nil:
		err = m.Ack()
	case errors.Is(outcome, event.ErrForeign) && e.Sequence == 0:
		// No service published it, so a dead letter would have nothing to send again.
		log().ErrorContext(ctx, "refused a message", "error", outcome)
		err = m.TermWithReason(oneLine(outcome, maxTermReason))
	case IsPermanent(outcome) || e.Delivery >= maxDeliveries && !unavailable:
		if err = c.giveUp(ctx, m, e, outcome, d); err == nil {
			log().ErrorContext(ctx, "made an event a dead letter", "error", outcome)
			err = m.TermWithReason(oneLine(outcome, maxTermReason))
			break
		}
		log().ErrorContext(ctx, "cannot make an event a dead letter yet", "error", err, "because", outcome)
		err = m.NakWithDelay(retryDelay(len(retryDelays)))
	default:
		delay := retryDelay(int(e.Delivery))
		if unavailable {
			delay = retryDelay(len(retryDelays))
		}
		log().WarnContext(ctx, "will retry an event", "in", delay, "error", outcome)
		err = m.NakWithDelay(delay)
	}
	if err != nil { // then the server delivers the event again after AckWait
		log().WarnContext(ctx, "cannot settle an event", "error", err)
	}
}
