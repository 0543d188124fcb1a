package trail_test

import (
	"errors"
	"testing"

	"example.org/ordertrail/test/trailgen"
	"example.org/ordertrail/trail"
)

// From each start of each generated world, the story that is collected from a source, step
// by step, is the one that the generator made. Every source has the spans in an order of
// its own.
func TestGeneratedInSources(t *testing.T) {
	for seed := range max(*seeds/20, 3) {
		w := trailgen.New(seed)
		for name, source := range sources(t, w.Spans) {
			for _, c := range w.Cases {
				story, err := trail.Build(t.Context(), source, c.Options, c.Start)
				if err != nil {
					t.Errorf("seed %d, %s, start at %s %v: %v", seed, name, c.Name, c.Start, err)
					continue
				}
				if d := trailgen.Differences(trailgen.Got(story), c.Want); d != "" {
					t.Errorf("seed %d, %s, start at %s %v:\n%s", seed, name, c.Name, c.Start, d)
				}
			}
		}
	}
}

// Spans that arrive after a story was shown complete it: nothing of the first answer stays.
func TestLateSpans(t *testing.T) {
	for seed := range max(*seeds/20, 3) {
		w := trailgen.New(seed)
		store, half := trail.NewStore(0), len(w.Spans)/2
		store.Add(w.Spans[:half]...)
		for _, c := range w.Cases {
			if _, err := trail.Build(t.Context(), store, c.Options, c.Start); err != nil && !errors.Is(err, trail.ErrNotFound) {
				t.Errorf("seed %d, start at %s %v, half of the spans: %v", seed, c.Name, c.Start, err)
			}
		}
		store.Add(w.Spans[half:]...)
		for _, c := range w.Cases {
			story, err := trail.Build(t.Context(), store, c.Options, c.Start)
			if err != nil {
				t.Errorf("seed %d, start at %s %v: %v", seed, c.Name, c.Start, err)
			} else if d := trailgen.Differences(trailgen.Got(story), c.Want); d != "" {
				t.Errorf("seed %d, start at %s %v:\n%s", seed, c.Name, c.Start, d)
			}
		}
	}
}
