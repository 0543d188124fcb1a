package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"ordertrail/internal/catalog"
	"ordertrail/internal/event"
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

// load takes what is stored as the current aggregate; nothing stored is an empty
// one, from the stream's beginning.
func (a *analytics) load(ctx context.Context, kv jetstream.KeyValue) error {
	entry, err := kv.Get(ctx, Name)
	var s stored
	revision := uint64(0)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		s.Aggregate = newAggregate()
	case err != nil:
		return fmt.Errorf("load the aggregate: %w", err)
	default:
		revision = entry.Revision()
		if err := json.Unmarshal(entry.Value(), &s); err != nil {
			return fmt.Errorf("load the aggregate (deleting key %s of bucket %s rebuilds it): %w", Name, kv.Bucket(), err)
		}
		s.Aggregate.ToParcel, s.Aggregate.ToConclusion = s.ToParcel, s.ToConclusion
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current, a.revision = s.Aggregate, revision
	return nil
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
	a.mu.Lock()
	revision := a.revision
	a.mu.Unlock()
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
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current, a.revision = next, revision
	return nil
}
