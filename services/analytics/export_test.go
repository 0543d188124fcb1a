package analytics

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/service"
)

// ReplayOn is Replay on a bucket of the test's.
func ReplayOn(ctx context.Context, rt *service.Runtime, kv jetstream.KeyValue) (ReplayResult, error) {
	return (&analytics{Runtime: rt}).replay(ctx, kv)
}
