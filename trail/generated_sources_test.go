package trail_test

import (
	"slices"
	"testing"

	"example.org/ordertrail/test/trailgen"
	"example.org/ordertrail/trail"
)

// From each start of each generated world, the story that is collected from a source, step
// by step, is the one that the generator made. Every source has the spans in an order of
// its own.
func TestGeneratedInSources(t *testing.T) {
	for seed := range max(*seeds/50, 3) {
		w := trailgen.New(seed)
		for name, source := range sources(t, w.Spans) {
			for _, c := range w.Cases {
				story, err := trail.Build(t.Context(), source, c.Options, c.Start)
				if err != nil {
					t.Errorf("seed %d, %s, start at %s %v: %v", seed, name, c.Name, c.Start, err)
					continue
				}
				// Jaeger scans, and reports it: the rest must be the same.
				story.Gaps = slices.DeleteFunc(story.Gaps, func(g trail.Gap) bool { return name == "Jaeger" && g.Kind == trail.GapSearch })
				if d := trailgen.Differences(trailgen.Got(story), c.Want); d != "" {
					t.Errorf("seed %d, %s, start at %s %v:\n%s", seed, name, c.Name, c.Start, d)
				}
			}
		}
	}
}
