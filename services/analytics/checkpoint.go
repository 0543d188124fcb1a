package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/stream"
)

const (
	storeTimeout = 5 * time.Second
	showTimeout  = 500 * time.Millisecond
	lagWait      = 10 * time.Millisecond
)

var (
	errUnreadable = errors.New("the stored value is not a checkpoint (`ordertrail replay analytics` rebuilds it)")
	errOvertaken  = errors.New("another instance has replaced the stored checkpoint")
	errNotLoaded  = errors.New("the stored checkpoint cannot be loaded")
)

// bucket opens the bucket of the checkpoint.
func (a *analytics) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := a.Stream.JetStream().KeyValue(ctx, stream.AnalyticsBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s (was `ordertrail provision` run?): %w", stream.AnalyticsBucket, err)
	}
	return kv, nil
}

// load returns the stored checkpoint, or an empty one if nothing is stored. With
// errUnreadable it returns the revision of the invalid value.
func load(ctx context.Context, kv jetstream.KeyValue) (checkpoint, error) {
	entry, err := kv.Get(ctx, Name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return newCheckpoint(), nil
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("load the checkpoint: %w", err)
	}
	stored, err := decodeCheckpoint(entry.Value())
	if err != nil {
		return checkpoint{revision: entry.Revision()}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	stored.revision = entry.Revision()
	return stored, nil
}

// decodeCheckpoint reads a stored checkpoint. It refuses one that events cannot make and
// the page cannot show. It accepts wrong numbers: only a replay finds these.
func decodeCheckpoint(value []byte) (checkpoint, error) {
	var c checkpoint
	if err := json.Unmarshal(value, &c); err != nil {
		return checkpoint{}, err
	}
	if len(c.Minutes) > minutesKept || !c.ToParcel.Valid() || !c.ToConclusion.Valid() {
		return checkpoint{}, errors.New("it has too many minutes, or durations that cannot be")
	}
	for i := 1; i < len(c.Minutes); i++ {
		if !c.Minutes[i-1].Minute.Before(c.Minutes[i].Minute) {
			return checkpoint{}, fmt.Errorf("minute %s is not before %s", c.Minutes[i-1].Minute, c.Minutes[i].Minute)
		}
	}
	return c.clone(), nil
}

// store replaces the stored checkpoint whose revision c has, and sets the new
// revision. It returns errOvertaken if another value is stored.
func (c *checkpoint) store(ctx context.Context, kv jetstream.KeyValue) error {
	value, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	revision := uint64(0)
	if c.revision == 0 {
		revision, err = kv.Create(ctx, Name, value)
	} else {
		revision, err = kv.Update(ctx, Name, value, c.revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	if err != nil {
		return fmt.Errorf("store the checkpoint (it may be stored or not; a second attempt is safe): %w", stream.Plain(err))
	}
	c.revision = revision
	return nil
}

// newest returns the stored checkpoint, which may be from another instance, or the
// known one if that is newer or NATS does not answer.
func (a *analytics) newest(ctx context.Context) checkpoint {
	ctx, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	var stored checkpoint
	kv, err := a.bucket(ctx)
	if err == nil {
		stored, err = load(ctx, kv)
	}
	if err != nil {
		a.Log.DebugContext(ctx, "showing the checkpoint in memory", "error", err)
	}
	if known := *a.known.Load(); err != nil || known.revision >= stored.revision {
		return known
	}
	return stored
}
