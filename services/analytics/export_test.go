package analytics

import (
	"context"
	"time"

	"example.org/ordertrail/internal/service"
)

// RefoldTo folds the events up to a sequence, as a replay does that waits no longer than
// patience for the next ones.
func RefoldTo(ctx context.Context, rt *service.Runtime, upTo uint64, patience time.Duration) error {
	folded := newCheckpoint()
	extent, err := rt.Stream.Extent(ctx)
	if err != nil {
		return err
	}
	folded.StreamCreated = extent.Created
	return (&analytics{Runtime: rt, patience: patience}).refold(ctx, &folded, upTo, new(ReplayResult))
}
