package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// stored is the form in which an aggregate is kept: with its histograms whole.
type stored struct {
	Aggregate
	ToParcel     Histogram `json:"to_parcel"`
	ToConclusion Histogram `json:"to_conclusion"`
}

// report is the form in which it is shown: with their quantiles.
type report struct {
	Aggregate
	ToParcel     Quantiles `json:"time_to_parcel_ms"`
	ToConclusion Quantiles `json:"time_to_conclusion_ms"`
}

func (a Aggregate) report() report {
	if a.Units == nil {
		a.Units = map[string]int64{}
	}
	if a.Reasons == nil {
		a.Reasons = map[string]int64{}
	}
	if a.Minutes == nil {
		a.Minutes = []Minute{}
	}
	return report{a, a.ToParcel.quantiles(), a.ToConclusion.quantiles()}
}

func newAggregate() Aggregate {
	zero := event.Money{Currency: catalog.Currency}
	return Aggregate{Revenue: zero, Refunds: zero}
}

// clone shares nothing with a.
func (a Aggregate) clone() Aggregate {
	a.Units, a.Reasons = maps.Clone(a.Units), maps.Clone(a.Reasons)
	a.Minutes = slices.Clone(a.Minutes)
	a.ToParcel.Counts = slices.Clone(a.ToParcel.Counts)
	a.ToConclusion.Counts = slices.Clone(a.ToConclusion.Counts)
	return a
}

// bucket opens where the aggregate is stored.
func (a *analytics) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := a.Stream.JetStream().KeyValue(ctx, stream.AnalyticsBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s (was `ordertrail provision` run?): %w", stream.AnalyticsBucket, err)
	}
	return kv, nil
}

// errUnreadable is returned by read when what is stored is no aggregate.
var errUnreadable = errors.New("the stored aggregate cannot be read")

// read returns what is stored, and its revision also if it is unreadable. Nothing
// stored is an empty aggregate, from the stream's beginning, with revision 0.
func read(ctx context.Context, kv jetstream.KeyValue) (Aggregate, uint64, error) {
	entry, err := kv.Get(ctx, Name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return newAggregate(), 0, nil
	}
	if err != nil {
		return Aggregate{}, 0, fmt.Errorf("load the aggregate: %w", err)
	}
	var s stored
	if err := json.Unmarshal(entry.Value(), &s); err != nil {
		return Aggregate{}, entry.Revision(), fmt.Errorf("%w (`ordertrail replay analytics` rebuilds it): %w", errUnreadable, err)
	}
	s.Aggregate.ToParcel, s.Aggregate.ToConclusion = s.ToParcel, s.ToConclusion
	return s.Aggregate, entry.Revision(), nil
}

// load takes what is stored as the current aggregate, whatever was before.
func (a *analytics) load(ctx context.Context, kv jetstream.KeyValue) error {
	loaded, revision, err := read(ctx, kv)
	if err != nil {
		return err
	}
	a.take(loaded, revision)
	return nil
}

// reload takes what is stored as the current aggregate if it is newer, and fails
// if that knows fewer events than before: the value was deleted or put right, and
// what it lacks has to be read again.
func (a *analytics) reload(ctx context.Context, kv jetstream.KeyValue) (newer bool, err error) {
	loaded, revision, err := read(ctx, kv)
	if err != nil {
		return false, err
	}
	if revision == a.revision || 0 < revision && revision < a.revision { // a replica that lags has older ones
		return false, nil
	}
	if loaded.AsOf < a.current.AsOf {
		return false, fmt.Errorf("the stored aggregate went back from sequence %d to %d", a.current.AsOf, loaded.AsOf)
	}
	a.take(loaded, revision)
	return true, nil
}

// take makes an aggregate that is stored the current one.
func (a *analytics) take(stored Aggregate, revision uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current, a.revision = stored, revision
}

// errOvertaken is returned by store when another instance has stored meanwhile.
var errOvertaken = errors.New("the stored aggregate is another one")

// store replaces the stored aggregate if it is still the one that next was made
// from, and returns errOvertaken if it is not.
func (a *analytics) store(ctx context.Context, kv jetstream.KeyValue, next Aggregate) error {
	value, err := json.Marshal(stored{next, next.ToParcel, next.ToConclusion})
	if err != nil {
		return fmt.Errorf("encode the aggregate: %w", err)
	}
	revision := a.revision
	if revision == 0 {
		revision, err = kv.Create(ctx, Name, value)
	} else {
		revision, err = kv.Update(ctx, Name, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	if err != nil {
		return fmt.Errorf("store the aggregate: %w", err)
	}
	a.take(next, revision)
	return nil
}
