package stream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// CheckAfter shortens the wait between a follower's checks.
func (c *Client) CheckAfter(d time.Duration) { c.checkWait = d }

// RedriveWithin shortens the time of a Redrive.
func (c *Client) RedriveWithin(d time.Duration) { c.redriveTimeout = d }

// Shared returns a function that joins a request.
func Shared[T any]() func(ctx context.Context, send func() (T, error)) (T, error) {
	return newShared[T]().join
}

// ReadLetter reads a stored dead letter, and makes the message that Redrive would send of
// it and the link of that message's consumer.
func ReadLetter(m *jetstream.RawStreamMsg, tracer *tracing.Tracer) (DeadLetter, *nats.Msg, trace.Link, error) {
	c := &Client{tracing: tracer}
	l := deadLetter(m)
	again, err := c.again(l)
	if err != nil {
		return l, nil, trace.Link{}, err
	}
	return l, again, c.failure(readMessage{again}), nil
}

// Matches reports whether a subject matches a filter.
var Matches = matches

// Ask repeats a request.
var Ask = ask[int]
