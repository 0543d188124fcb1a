package trail_test

import (
	"flag"
	"fmt"
	"testing"

	"example.org/ordertrail/test/trailgen"
	"example.org/ordertrail/trail"
)

var seeds = flag.Uint64("seeds", 200, "worlds of TestGenerated")

// From each start of each generated world, in any order of arrival, the story is the one
// that the generator made.
func TestGenerated(t *testing.T) {
	cases := map[string]int{}
	for seed := range *seeds {
		w := trailgen.New(seed)
		for _, c := range w.Cases {
			cases[c.Name]++
			got := trailgen.Got(trail.Stitch(trail.Spans{Spans: w.Spans}, c.Options, c.Start))
			if d := trailgen.Differences(got, c.Want); d != "" {
				t.Errorf("seed %d, start at %s %v:\n%s", seed, c.Name, c.Start, d)
			}
		}
	}
	if *seeds >= 100 && len(cases) < 8 {
		t.Errorf("only these starts: %v", fmt.Sprint(cases))
	}
}
