package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// unavailableError is an ErrUnavailable with its cause.
type unavailableError struct{ cause error }

func (e unavailableError) Error() string {
	if errors.As(e.cause, new(missingError)) {
		return e.cause.Error() // the server is there
	}
	text := e.cause.Error()
	for strings.HasPrefix(text, natsPrefix) {
		text = text[len(natsPrefix):]
	}
	return ErrUnavailable.Error() + ": " + text
}

func (e unavailableError) Unwrap() []error { return []error{ErrUnavailable, e.cause} }

// natsPrefix begins the errors of the client library.
const natsPrefix = "nats: "

// Plain returns an error of the client library whose text begins with "nats: " once. Its
// publishes, and so its key-value buckets, add the prefix to errors that have it.
func Plain(err error) error {
	if err == nil || !strings.HasPrefix(err.Error(), natsPrefix+natsPrefix) {
		return err
	}
	return plainError{err}
}

type plainError struct{ error }

func (e plainError) Error() string { return strings.TrimPrefix(e.error.Error(), natsPrefix) }
func (e plainError) Unwrap() error { return e.error }

// missingError means that provisioning has not made a stream, consumer or bucket, or that
// somebody has deleted it.
type missingError struct {
	what  string
	cause error
}

func (e missingError) Error() string { return e.what + " is missing: run `ordertrail provision`" }
func (e missingError) Unwrap() error { return e.cause }

// missing returns a missingError if err means that what does not exist. Otherwise it adds
// what to err.
func missing(what string, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return missingError{what, err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Error codes of a server without free space, which the client library does not name.
var noSpace = []jetstream.ErrorCode{
	10023, // insufficient resources
	10047, // the server's storage limit
}

// errCodeStoreFailed is the code of a message that would exceed the stream's limit.
const errCodeStoreFailed jetstream.ErrorCode = 10077

// Outage describes an [ErrUnavailable] to a person, without details. If nothing has
// answered a request, it asks the server whether the stream is missing.
func (c *Client) Outage(ctx context.Context, err error) string {
	var api *jetstream.APIError
	switch {
	case !c.nc.IsConnected():
		return "the shop has no connection to NATS"
	case errors.As(err, &api) && slices.Contains(noSpace, api.ErrorCode):
		return "the disk of NATS is full"
	case errors.As(err, &api) && api.ErrorCode == errCodeStoreFailed:
		return "a stream of NATS is full (" + api.Description + ")"
	}
	var gone missingError
	if errors.As(err, &gone) || errors.As(c.unanswered(ctx, err), &gone) {
		return gone.Error()
	}
	return "NATS does not answer in time"
}

// unanswered returns the reason why no stream has answered a request.
func (c *Client) unanswered(ctx context.Context, err error) error {
	if !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrNoResponders) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	if _, err := c.extent(ctx); err != nil {
		return err
	}
	c.duties.mu.Lock()
	durables := maps.Clone(c.duties.durables)
	c.duties.mu.Unlock()
	for _, d := range durables {
		if _, err := c.consumer(ctx, d); err != nil {
			return err
		}
	}
	return nil
}
