package histogram_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.org/ordertrail/internal/histogram"
)

func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for name, sample := range map[string]func() time.Duration{
		"Uniform": func() time.Duration { return time.Millisecond + time.Duration(random.Int64N(int64(10*time.Second))) },
		"Exponential": func() time.Duration {
			return time.Millisecond + time.Duration(random.ExpFloat64()*float64(time.Second))
		},
		"Constant": func() time.Duration { return 137 * time.Millisecond },
		"Two":      func() time.Duration { return []time.Duration{3 * time.Millisecond, time.Hour}[random.IntN(2)] },
	} {
		t.Run(name, func(t *testing.T) {
			var h histogram.Histogram
			var all []time.Duration
			for range 5000 {
				d := sample()
				h.Record(d)
				all = append(all, d)
			}
			slices.Sort(all)
			q := h.Quantiles()
			for quantile, got := range map[float64]float64{0.5: q.P50, 0.9: q.P90, 0.99: q.P99} {
				truth := float64(all[int(math.Ceil(quantile*float64(len(all))))-1]) / float64(time.Millisecond)
				if math.Abs(got-truth) > truth/10+0.1 {
					t.Errorf("quantile %v = %v ms, want %v within 10 %%", quantile, got, truth)
				}
			}
			if got, want := q.Max, int64(math.Ceil(float64(all[len(all)-1])/float64(time.Millisecond))); got != float64(want) {
				t.Errorf("max = %v ms, want %d", got, want)
			}
		})
	}
}

// Every duration is counted once, in the column of its range. The size is bounded.
func TestColumns(t *testing.T) {
	var all histogram.Histogram
	for _, d := range []time.Duration{
		math.MinInt64, -time.Second, 0, time.Millisecond, 1090 * time.Microsecond, 1091 * time.Microsecond,
		7 * time.Millisecond, 3 * time.Second, 300 * time.Hour, math.MaxInt64,
	} {
		all.Record(d)
		var h histogram.Histogram
		h.Record(d)
		columns := h.Columns()
		if len(columns) != 1 || columns[0].Count != 1 {
			t.Fatalf("%v: columns = %v", d, columns)
		}
		if c := columns[0]; d >= 0 && d < math.MaxInt64 && (d < c.From || d > c.To) {
			t.Errorf("%v is counted between %v and %v", d, c.From, c.To)
		}
		if at := h.Position(h.Quantiles().P50); at < 0 || at > 1 {
			t.Errorf("%v is at position %v of its column", d, at)
		}
	}
	if got, most := len(all.Counts), 8*44; got > most || !all.Valid() {
		t.Errorf("%d buckets, max = %d ms", got, all.Max)
	}
	var none histogram.Histogram
	if got := none.Quantiles(); got != (histogram.Quantiles{}) || none.Columns() != nil {
		t.Errorf("an empty histogram has the quantiles %+v and the columns %v", got, none.Columns())
	}
}
