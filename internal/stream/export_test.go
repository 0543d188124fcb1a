package stream

import (
	"context"
	"time"
)

// CheckAfter shortens the wait between a follower's checks.
func (c *Client) CheckAfter(d time.Duration) { c.checkWait = d }

// RedriveWithin shortens the time of a Redrive.
func (c *Client) RedriveWithin(d time.Duration) { c.redriveTimeout = d }

// Shared returns a function that joins a request.
func Shared[T any]() func(ctx context.Context, send func() (T, error)) (T, error) {
	return newShared[T]().join
}

// Matches reports whether a subject matches a filter.
var Matches = matches

// Ask repeats a request.
var Ask = ask[int]
