package analytics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// ReplayResult tells what a replay did and found.
type ReplayResult struct {
	Events      int      // read, also those that change no number
	AsOf        uint64   // the sequence that the stored numbers are good for now
	Compared    uint64   // the sequence at which those stored before were compared; 0: there were none
	Differences []string // what was wrong with them, a line each; none: they were the same
}

// String tells it to an operator, in a line and one for each difference.
func (r ReplayResult) String() string {
	s := fmt.Sprintf("replayed %d events, up to sequence %d: ", r.Events, r.AsOf)
	switch {
	case len(r.Differences) > 0:
		return s + "the stored numbers were wrong, and are replaced\n  " + strings.Join(r.Differences, "\n  ")
	case r.Compared == 0:
		return s + "there were no stored numbers to compare with"
	default:
		return s + fmt.Sprintf("the numbers stored for sequence %d were the same", r.Compared)
	}
}

// replayTries is how often a replay loses its compare-and-set before it gives up.
// The service stores once for each batch: only over a slow link is there never time
// in between.
const replayTries = 200

// Replay counts all events that there are once more, from the stream's first, and
// replaces the stored aggregate by what comes out, which also rebuilds one that
// was deleted or damaged. The service may run meanwhile: each loses its
// compare-and-set to the other, and goes on from what the other stored. Nothing
// is published, so that nobody else acts again.
//
// A batch's span has the attribute analytics.replay, and its links to the events'
// producers have the relationship replay_of.
//
// Replay fails when ctx ends, NATS cannot be asked, or the running service is always
// faster. What is stored is then as it was, or the new aggregate if only the
// server's answer was lost; to run it again is safe.
func Replay(ctx context.Context, rt *service.Runtime) (ReplayResult, error) {
	a := &analytics{Runtime: rt} // an instance that has its own fold
	kv, err := a.bucket(ctx)
	if err != nil {
		return ReplayResult{}, err
	}
	return a.replay(ctx, kv)
}

func (a *analytics) replay(ctx context.Context, kv jetstream.KeyValue) (result ReplayResult, err error) {
	upTo, err := a.lastSequence(ctx)
	if err != nil {
		return result, err
	}
	a.current = newAggregate()
	for tries := 1; ; tries++ {
		if err := a.compare(ctx, kv, upTo, &result); err != nil {
			return result, err
		}
		if err := a.refold(ctx, upTo, &result); err != nil {
			return result, err
		}
		// The stored aggregate knows no event that this one does not: it may go.
		err := a.store(ctx, kv, a.current)
		if err == nil {
			result.AsOf = a.current.AsOf
			return result, nil
		}
		if !errors.Is(err, errOvertaken) {
			return result, fmt.Errorf("%w (it may be stored or not: run the replay again)", err)
		}
		if tries == replayTries {
			return result, fmt.Errorf("the running service has stored newer numbers each of %d times, and nothing was changed: run the replay nearer to NATS, or stop the service meanwhile", tries)
		}
		select {
		case <-time.After(lagWait): // a replica may have answered that lags
		case <-ctx.Done():
			return result, ctx.Err()
		}
	}
}

// compare folds at least as far as the stored aggregate is and compares the two
// at its sequence. One that is behind the replay was stored since the comparison.
func (a *analytics) compare(ctx context.Context, kv jetstream.KeyValue, upTo uint64, result *ReplayResult) error {
	was, revision, err := read(ctx, kv)
	a.revision = revision
	if errors.Is(err, errUnreadable) {
		result.Differences = []string{"what was stored is no aggregate"}
		return nil
	}
	if err != nil {
		return err
	}
	if was.AsOf > upTo { // by events that came meanwhile?
		last, err := a.lastSequence(ctx)
		if err != nil {
			return err
		}
		if was.AsOf > last {
			result.Differences = []string{fmt.Sprintf("as_of_sequence: %d was stored, the last event's is %d", was.AsOf, last)}
			return nil
		}
	}
	if was.AsOf < a.current.AsOf {
		return nil
	}
	if err := a.refold(ctx, was.AsOf, result); err != nil {
		return err
	}
	result.Compared, result.Differences = was.AsOf, differences(was, a.current)
	return nil
}

// refold adds the events up to a sequence to the current aggregate, which nobody
// sees yet.
func (a *analytics) refold(ctx context.Context, upTo uint64, result *ReplayResult) error {
	if a.current.AsOf >= upTo {
		return nil
	}
	err := a.batches(ctx, upTo, func(batch []jetstream.Msg) error {
		return a.Tracing.ProcessBatch(ctx, batch, func(ctx context.Context, batch []jetstream.Msg) error {
			next, recorded := a.with(ctx, batch)
			a.current = next
			result.Events += recorded
			return nil
		}, tracing.Ephemeral(), tracing.LinkAttributes(stream.OrderID),
			tracing.Relationship("replay_of"), tracing.Attributes(attribute.Bool("analytics.replay", true)))
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("stopped at sequence %d of %d, and changed nothing (run it again): %w", a.current.AsOf, upTo, err)
	}
	return nil
}

// lastSequence is that of the last event that is counted. The classic API asks the
// stream's leader; the other one asks any replica, and one that lags would have
// the replay end too early, or take what is stored for ahead of the stream.
func (a *analytics) lastSequence(ctx context.Context) (last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	js, err := a.Stream.JetStream().Conn().JetStream()
	if err != nil {
		return 0, fmt.Errorf("open JetStream: %w", err)
	}
	for _, filter := range Consumes {
		m, err := js.GetLastMsg(stream.OrdersStream, filter, nats.Context(ctx))
		if errors.Is(err, nats.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("find the last event of stream %s (is NATS up, and was `ordertrail provision` run?): %w", stream.OrdersStream, err)
		}
		last = max(last, m.Sequence)
	}
	return last, nil
}

// longest is how long a difference may be to be shown in full.
const longest = 200

// differences tells what two aggregates for the same sequence count differently.
func differences(was, is Aggregate) (lines []string) {
	stored, counted := figures(was), figures(is)
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		if name == "as_of_sequence" || bytes.Equal(stored[name], counted[name]) {
			continue
		}
		line := fmt.Sprintf("%s: %s was stored, %s is right", name, stored[name], counted[name])
		if len(line) > longest {
			line = name + ": other numbers were stored"
		}
		lines = append(lines, line)
	}
	return lines
}

// figures returns the parts of an aggregate by their names, as JSON; none of one
// that was damaged so that it cannot be encoded, hence all of it differs.
func figures(a Aggregate) (parts map[string]json.RawMessage) {
	value, err := json.Marshal(stored{a.report().Aggregate, a.ToParcel, a.ToConclusion})
	if err == nil {
		err = json.Unmarshal(value, &parts)
	}
	if err != nil {
		return nil
	}
	return parts
}
