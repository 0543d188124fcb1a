// Package retry repeats an operation while its server is away.
package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// attemptTimeout bounds one attempt.
const attemptTimeout = 2 * time.Second

// Forever calls try until it succeeds, returns an error marked by
// [backoff.Permanent], or ctx ends; it pauses for the interval between calls.
//
// No wait is silent: Forever calls report with the first failure, and after that, if try
// succeeds, with nil and how long it has waited.
func Forever[T any](ctx context.Context, interval time.Duration, report func(failure error, waited time.Duration), try func(context.Context) (T, error)) (T, error) {
	var since time.Time // of the first failure
	result, err := backoff.Retry(ctx, func() (T, error) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		return try(attempt)
	},
		backoff.WithBackOff(backoff.NewConstantBackOff(interval)),
		backoff.WithMaxElapsedTime(0), // the library's default ends after 15 minutes
		backoff.WithNotify(func(err error, _ time.Duration) {
			if since.IsZero() {
				since = time.Now()
				report(err, 0)
			}
		}))
	if err == nil && !since.IsZero() {
		report(nil, time.Since(since))
	}
	return result, err
}

// Silent is a report for a caller whose try reports its own failures.
func Silent(error, time.Duration) {}
