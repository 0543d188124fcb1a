package analytics

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/service"
)

// ReplayOn replays with a bucket of the test.
func ReplayOn(ctx context.Context, rt *service.Runtime, kv jetstream.KeyValue) (ReplayResult, error) {
	return (&analytics{Runtime: rt}).replay(ctx, kv, 10)
}
