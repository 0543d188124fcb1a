// Package stream holds ordertrail's JetStream patterns, so that a service's code
// is its rules alone:
//
//   - [Client.PublishOnce]: an event is stored once, for ever, whatever is retried
//   - [Client.Order], [Client.History]: an order's events read back from the
//     stream, as the state
//   - [Client.Consume]: competing consumers on a durable, with explicit acks
//   - [Client.Redrive]: what they could not handle, sent to them again
//   - [Client.Schedule]: a deadline that outlives every process
//   - [Client.Follow]: folding the log in stream order
//   - [Client.Lead]: one active writer by lease
//   - [Provision]: the streams, consumers and buckets all of it needs
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
	"go.opentelemetry.io/otel/attribute"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing"
)

// Client is a service's access to the streams. It is safe for concurrent use.
type Client struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	tracing *tracing.Tracer
	log     *slog.Logger
	onStore func(event.Type, string)

	onDeliver func(durable string, m jetstream.Msg) []jetstream.Msg

	// One subscription takes the answers of all history reads: subscribing for
	// each would cost several times the read itself.
	answers struct {
		sync.Mutex
		sub     *nats.Subscription
		inbox   string
		next    uint64
		pending map[string]chan *nats.Msg
	}
}

// Option changes a Client.
type Option func(*Client)

// OnStore has f called whenever PublishOnce has stored an event, before it
// returns. A test that must stop a service between its publish and its ack does
// it there.
func OnStore(f func(t event.Type, key string)) Option { return func(c *Client) { c.onStore = f } }

// OnDeliver has f called with each delivery of a durable, and what f returns
// handled in its place. A test delays, repeats and loses messages there.
func OnDeliver(f func(durable string, m jetstream.Msg) []jetstream.Msg) Option {
	return func(c *Client) { c.onDeliver = f }
}

// New makes a Client on a connection, which stays the caller's to close.
func New(nc *nats.Conn, tracer *tracing.Tracer, log *slog.Logger, opts ...Option) (*Client, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	c := &Client{nc: nc, js: js, tracing: tracer, log: log}
	for _, o := range opts {
		o(c)
	}
	c.answers.pending = map[string]chan *nats.Msg{}
	return c, nil
}

// JetStream is the underlying context, for what has no pattern here.
func (c *Client) JetStream() jetstream.JetStream { return c.js }

// Ready reports why the service could not work now, nil if it can: the server is
// there, and so is the stream.
func (c *Client) Ready(ctx context.Context) error {
	if !c.nc.IsConnected() {
		return fmt.Errorf("NATS is %s", c.nc.Status())
	}
	if _, err := c.js.Stream(ctx, OrdersStream); err != nil {
		return fmt.Errorf("stream %s: %w (was `ordertrail provision` run?)", OrdersStream, err)
	}
	return nil
}

// ErrUnavailable is wrapped by the errors of reads and publishes that NATS did not
// answer, or could not carry out, in the time there was: it is away, without a
// leader, or full.
var ErrUnavailable = errors.New("NATS is unavailable")

// unavailable marks err, unless the connection was closed, which nothing heals.
func unavailable(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// permanentError marks a failure that no redelivery can heal.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks err as one that trying again cannot heal: the consume loop
// gives the message up at once. Every other error of a handler is retried.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

func isPermanent(err error) bool {
	var p permanentError
	return errors.As(err, &p) || errors.Is(err, event.ErrForeign)
}

// OrderID is the attribute that names the order of a message, on links as on
// spans: what is searched for when one wants all of an order.
func OrderID(m jetstream.Msg) []attribute.KeyValue {
	_, subject, _ := event.CutRedrive(m.Subject())
	t, key, err := event.ParseSubject(subject)
	if err != nil || t.Domain() == "stock" {
		return nil
	}
	return []attribute.KeyValue{event.OrderIDKey.String(key)}
}

// EventOf makes an Event of a delivered message. It returns event.ErrForeign for
// a message that no service published as it stands.
func EventOf(m jetstream.Msg) (event.Event, error) {
	e, err := event.Check(m.Subject(), m.Headers(), m.Data())
	if err != nil {
		return e, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return e, fmt.Errorf("read the metadata of %s: %w", m.Subject(), err)
	}
	e.Sequence, e.Time, e.Delivery = meta.Sequence.Stream, meta.Timestamp, meta.NumDelivered
	return e, nil
}

// pause waits for d or the end of ctx, whose error it then returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
