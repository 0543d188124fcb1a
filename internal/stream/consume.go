package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing"
)

// Handler deals with one event, which may have been dealt with before: each of
// its effects must be harmless the second time. An error has the event delivered
// again; one marked Permanent, or the last of too many, makes it a dead letter.
// For [ErrUnavailable] the handler is not to blame: it is called again until NATS
// is back.
type Handler func(ctx context.Context, e event.Event) error

// ConsumeOption changes what Consume does.
type ConsumeOption func(*consumption)

// From names another stream than ORDERS.
func From(stream string) ConsumeOption { return func(c *consumption) { c.stream = stream } }

// BeforeDeadLetter has f called with an event that is about to become a dead
// letter, to leave nothing half done. If f fails, and not permanently, the event
// is delivered again and f called again, for as long as it takes.
func BeforeDeadLetter(f Handler) ConsumeOption {
	return func(c *consumption) { c.beforeDeadLetter = f }
}

// consumption is one call of Consume.
type consumption struct {
	stream, durable  string
	handle           Handler
	beforeDeadLetter Handler
}

const (
	workers = 32 // events one replica has at a time, and handles

	handlerTimeout = 4 * time.Second // and effectTimeout, together < defaultAckWait

	effectTimeout = 2 * time.Second // after that

	// How long the server holds a request for events open, and so how long a
	// replica that is told to stop still waits for it.
	fetchWait = 500 * time.Millisecond

	lookupWait = 500 * time.Millisecond // between looks for a consumer that is not there yet
)

// maxDeliveries is how often an event is handled before it becomes a dead letter.
const maxDeliveries = 5

// backoff is how long to wait before the deliveries that follow a failed one; the
// last one goes on.
var backoff = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}

// Consume has h handle the durable's events, several at a time and in no
// particular order, shared with every other replica that does the same. Each is
// acknowledged when h has returned nil, and delivered again otherwise, up to five
// times; then it is a dead letter, see [Client.DeadLetters].
//
// Each event is handled in a span of its own, linked to its producer's; one that
// an operator has sent again also to the span that failed.
//
// Consume runs until ctx ends; then it asks for no more events, lets those that it
// has in hand finish, and returns nil. It waits for a consumer that is not there
// and for servers that are away.
func (c *Client) Consume(ctx context.Context, durable string, h Handler, opts ...ConsumeOption) error {
	what := consumption{stream: OrdersStream, durable: durable, handle: h}
	for _, o := range opts {
		o(&what)
	}
	consumer, err := c.lookup(ctx, what)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	var busy sync.WaitGroup
	defer busy.Wait()
	// An event that waited here for others would be delivered again elsewhere, and
	// handled twice at a time. So there are never more than there are hands for.
	idle := make(chan struct{}, workers)
	for range workers {
		idle <- struct{}{}
	}
	for ctx.Err() == nil {
		hands := take(idle)
		err := fetch(consumer, hands, func(m jetstream.Msg) {
			hands--
			busy.Go(func() {
				defer func() { idle <- struct{}{} }()
				c.deliver(ctx, m, what)
			})
		})
		for range hands {
			idle <- struct{}{}
		}
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

// take takes all that there are, one at least.
func take(idle <-chan struct{}) (n int) {
	<-idle // a handler ends sooner or later, whatever it waits for
	for n = 1; ; n++ {
		select {
		case <-idle:
		default:
			return n
		}
	}
}

// fetch asks for so many messages and calls take for each as it comes. It always
// waits for the end of its request: whoever leaves earlier leaves messages behind
// that the server has sent already, and will deliver again only after AckWait.
func fetch(consumer jetstream.Consumer, batch int, take func(jetstream.Msg)) error {
	messages, err := consumer.Fetch(batch, jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return err
	}
	for m := range messages.Messages() {
		take(m)
	}
	return messages.Error()
}

// AfterEffect returns a context for what has to follow an effect outside: to say
// that it was had, or to undo it. It does not end with ctx, the handler's, but has a
// little time of its own: an effect that comes late, when the event was given up
// and the order cancelled, is known to nobody else.
func AfterEffect(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), effectTimeout)
}

// lookup finds the durable, which someone with the permission to do so makes.
func (c *Client) lookup(ctx context.Context, what consumption) (jetstream.Consumer, error) {
	for warned := false; ; {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		consumer, err := c.js.Consumer(attempt, what.stream, what.durable)
		cancel()
		if err == nil {
			return consumer, nil
		}
		if errors.Is(err, jetstream.ErrInvalidConsumerName) {
			return nil, err
		}
		if !warned {
			c.log.Warn("waiting for the consumer: is NATS up, and was `ordertrail provision` run?", "consumer", what.durable, "stream", what.stream, "error", err)
			warned = true
		}
		if pause(ctx, lookupWait) != nil {
			return nil, fmt.Errorf("look up consumer %s: %w", what.durable, err)
		}
	}
}

// deliver handles one delivery, or what a test makes of it. The handlers outlive
// ctx: it says when to take no more events, not when to drop those in hand.
func (c *Client) deliver(ctx context.Context, m jetstream.Msg, what consumption) {
	if c.onDeliver == nil {
		c.handle(ctx, m, what)
		return
	}
	for _, m := range c.onDeliver(what.durable, m) {
		c.handle(ctx, m, what)
	}
}

// handle deals with one delivery, from its span to its settlement.
func (c *Client) handle(stopping context.Context, m jetstream.Msg, what consumption) {
	// The error is on the span and in the log; nobody is left to return it to.
	_ = c.tracing.Process(context.WithoutCancel(stopping), m, func(ctx context.Context, m jetstream.Msg) error {
		if len(m.Headers()[spanHeader]) > 0 {
			trace.SpanFromContext(ctx).AddLink(c.failure(m))
		}
		e, err := c.try(ctx, m, what, false)
		// While NATS can't be asked or can't store, deliveries would be used up on
		// nothing, and events that are as they should be become dead letters.
		for tries := 1; errors.Is(err, ErrUnavailable); tries++ {
			c.log.WarnContext(ctx, "cannot handle an event yet", "subject", m.Subject(), "tries", tries, "error", err)
			if pause(stopping, backoff[min(tries, len(backoff))-1]) != nil {
				break
			}
			_ = m.InProgress() // or it is delivered elsewhere too: that is harmless
			e, err = c.try(ctx, m, what, true)
		}
		c.settle(ctx, m, e, err, what)
		return err
	}, tracing.WithConsumerGroup(what.durable), tracing.WithLinkAttributes(OrderID))
}

// try has the event of a delivery handled.
func (c *Client) try(ctx context.Context, m jetstream.Msg, what consumption, again bool) (event.Event, error) {
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
	return e, what.handle(ctx, e)
}

// delivered makes an Event of a delivery; of one that an operator has sent again
// it makes the event as it is stored, so that nothing in the copy needs to be
// believed.
func (c *Client) delivered(ctx context.Context, m jetstream.Msg) (event.Event, error) {
	_, subject, redriven := event.CutRedrive(m.Subject())
	if !redriven {
		return EventOf(m)
	}
	if _, _, err := event.ParseSubject(subject); err != nil {
		return event.Event{}, fmt.Errorf("%w: %w", event.ErrForeign, err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return event.Event{}, fmt.Errorf("read the metadata of %s: %w", m.Subject(), err)
	}
	// With the copy's own subject in it the read has a sequence to wait for, and
	// ends also if there is no such event.
	events, err := c.last(ctx, meta.Sequence.Stream, subject, m.Subject())
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

// settle tells the server what became of a delivery.
func (c *Client) settle(ctx context.Context, m jetstream.Msg, e event.Event, outcome error, what consumption) {
	log := c.log.With("subject", m.Subject(), "sequence", e.Sequence, "delivery", e.Delivery)
	var err error
	switch {
	case outcome == nil:
		err = m.Ack()
	case errors.Is(outcome, event.ErrForeign) && e.Sequence == 0:
		// Nobody here published it: there is nothing to do again.
		log.ErrorContext(ctx, "refused a message", "error", outcome)
		err = m.TermWithReason(reason(outcome))
	case isPermanent(outcome) || e.Delivery >= maxDeliveries && !errors.Is(outcome, ErrUnavailable):
		if err = c.giveUp(ctx, m, e, outcome, what); err == nil {
			log.ErrorContext(ctx, "made an event a dead letter", "error", outcome)
			err = m.TermWithReason(reason(outcome))
			break
		}
		log.ErrorContext(ctx, "cannot make an event a dead letter yet", "error", err, "because", outcome)
		err = m.NakWithDelay(backoff[len(backoff)-1])
	default:
		delay := backoff[min(max(int(e.Delivery), 1), len(backoff))-1]
		if errors.Is(outcome, ErrUnavailable) { // and this replica is about to stop
			delay = backoff[len(backoff)-1]
		}
		log.WarnContext(ctx, "will retry an event", "in", delay, "error", outcome)
		err = m.NakWithDelay(delay)
	}
	if err != nil {
		// The server will deliver it again after AckWait.
		log.WarnContext(ctx, "settle", "error", err)
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
