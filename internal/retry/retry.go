// Package retry repeats an operation while its server is away.
package retry

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// attemptTimeout bounds one attempt.
const attemptTimeout = 2 * time.Second

// Forever calls try until it succeeds, returns an error marked by
// [backoff.Permanent], or ctx ends; it pauses for the interval between calls. It
// passes the first failure to warn: nobody should wait without knowing why.
func Forever[T any](ctx context.Context, interval time.Duration, warn func(error), try func(context.Context) (T, error)) (T, error) {
	var once sync.Once
	return backoff.Retry(ctx, func() (T, error) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		return try(attempt)
	},
		backoff.WithBackOff(backoff.NewConstantBackOff(interval)),
		backoff.WithMaxElapsedTime(0), // the library's default ends after 15 minutes
		backoff.WithNotify(func(err error, _ time.Duration) { once.Do(func() { warn(err) }) }))
}
