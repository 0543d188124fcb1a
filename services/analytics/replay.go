package analytics

import (
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
	"example.org/ordertrail/trail"
)

// ReplayResult is the outcome of a replay.
type ReplayResult struct {
	Events      int      // number of events read, including those that change no number
	AsOf        uint64   // sequence of the last event in the stored numbers
	Compared    uint64   // sequence at which the old numbers were compared; 0 if there were none
	Differences []string // errors in the old numbers, one line each
}

// String formats the result for an operator, with a line for each difference.
func (r ReplayResult) String() string {
	s := fmt.Sprintf("replayed %s, up to sequence %d: ", trail.Counted(int(r.Events), "event"), r.AsOf)
	switch {
	case len(r.Differences) > 0:
		return s + "the stored numbers were wrong, and are replaced\n  " + strings.Join(r.Differences, "\n  ")
	case r.Compared == 0:
		return s + "there were no stored numbers to compare with"
	default:
		return s + fmt.Sprintf("the numbers stored for sequence %d were the same", r.Compared)
	}
}

// replayTries limits the lost compare-and-sets of a replay. The service stores once
// for each batch, so that only a replay over a slow link always loses.
const replayTries = 200

// replayPatience is the longest wait of a replay for the next events.
const replayPatience = 15 * time.Second

// Replay folds all events again, from the first one in the stream, and replaces the
// stored checkpoint, even if that was deleted or damaged. The service may run
// meanwhile: each loses its compare-and-set to the other and continues from the
// value that the other stored. Replay publishes nothing, so that no other service
// acts again.
//
// The span of a batch has the attribute analytics.replay, and its links to the
// producers have the relationship replay_of.
//
// Replay fails when ctx ends, when NATS does not answer, or when the running service
// is always faster. Running it again is safe.
func Replay(ctx context.Context, rt *service.Runtime) (ReplayResult, error) {
	a := &analytics{Runtime: rt, patience: replayPatience}
	kv, err := a.bucket(ctx)
	if err != nil {
		return ReplayResult{}, err
	}
	return a.replay(ctx, kv, replayTries)
}

func (a *analytics) replay(ctx context.Context, kv jetstream.KeyValue, tries int) (result ReplayResult, err error) {
	folded := newCheckpoint()
	extent, err := a.Stream.Extent(ctx)
	if err != nil {
		return result, err
	}
	folded.StreamCreated = extent.Created
	for range tries {
		stored, err := load(ctx, kv)
		unreadable := errors.Is(err, errUnreadable)
		if err != nil && !unreadable {
			return result, err
		}
		foreign := a.Stream.Verify(ctx, stored.position())
		if foreign != nil && !errors.Is(foreign, stream.ErrReplaced) {
			return result, foreign
		}
		last, err := a.lastSequence(ctx) // asked after load: the checkpoint has no later event
		if err != nil {
			return result, err
		}
		switch {
		case unreadable:
			result.Differences = []string{"the stored value was not a checkpoint"}
		case stored.AsOf > last:
			result.Differences = []string{fmt.Sprintf("as_of_sequence: %d was stored, the last event's is %d", stored.AsOf, last)}
		case foreign != nil:
			result.Differences = []string{"the stored numbers were of another stream: " + foreign.Error()}
		case stored.AsOf >= folded.AsOf: // else it was stored after an earlier comparison
			if err := a.refold(ctx, &folded, stored.AsOf, &result); err != nil {
				return result, err
			}
			result.Compared, result.Differences = stored.AsOf, differences(stored, folded)
		}
		if err := a.refold(ctx, &folded, last, &result); err != nil {
			return result, err
		}
		folded.revision = stored.revision
		if err = folded.store(ctx, kv); !errors.Is(err, errOvertaken) {
			result.AsOf = folded.AsOf
			return result, err
		}
		time.Sleep(lagWait) // a lagging replica may have answered
	}
	return result, fmt.Errorf("the running service stored newer numbers before each of %d attempts, and nothing was changed: run the replay nearer to NATS, or stop the service meanwhile", tries)
}

// refold adds the events up to a sequence to a checkpoint.
func (a *analytics) refold(ctx context.Context, folded *checkpoint, upTo uint64, result *ReplayResult) error {
	if folded.AsOf >= upTo {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(a.patience, func() { cancel(fmt.Errorf("no event came for %s", a.patience)) })
	defer stalled.Stop()
	err := a.batches(ctx, folded.position(), upTo, func(batch []jetstream.Msg) error {
		return a.Tracing.ProcessBatch(ctx, batch, func(ctx context.Context, batch []jetstream.Msg) error {
			next, added := a.with(ctx, *folded, batch)
			*folded = next
			result.Events += added
			stalled.Reset(a.patience)
			return nil
		}, tracing.WithLinkAttributes(stream.OrderID),
			tracing.WithRelationship("replay_of"), tracing.WithAttributes(attribute.Bool("analytics.replay", true)))
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("stopped at sequence %d of %d and changed nothing; run it again: %w", folded.AsOf, upTo, err)
	}
	return nil
}

// lastSequence returns the sequence of the last event in the stream that is counted,
// 0 if there is none. The older API of the client asks the leader of the stream. The
// newer one asks any replica, and a lagging replica would end the replay too early,
// or make the stored checkpoint look ahead of the stream.
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

// longest limits the length of a difference that is printed in full.
const longest = 200

// differences compares two checkpoints for the same sequence.
func differences(was, is checkpoint) (lines []string) {
	was.moveTo(is.position()) // differs if the stored sequence is that of an event that is not counted
	stored, counted := fields(was), fields(is)
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		line := fmt.Sprintf("%s: %s was stored, %s is right", name, stored[name], counted[name])
		switch {
		case string(stored[name]) == string(counted[name]):
			continue
		case len(line) > longest:
			line = name + ": other numbers were stored"
		}
		lines = append(lines, line)
	}
	return lines
}

// fields returns the JSON of each field. It returns none if the checkpoint is so
// damaged that it cannot be encoded.
func fields(c checkpoint) (byName map[string]json.RawMessage) {
	value, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(value, &byName)
	}
	if err != nil {
		return nil
	}
	return byName
}
