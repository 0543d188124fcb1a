// Package histogram counts durations in buckets that grow exponentially, and draws
// quantiles and columns from them.
package histogram

import (
	"math"
	"slices"
	"time"
)

const (
	bucketsPerDoubling = 8
	bucketsPerColumn   = 4
	maxBuckets         = 44 * bucketsPerDoubling // the longest duration is less than 2^44 ms
)

// Histogram counts durations. Its buckets begin at 1 ms and grow by a factor of
// 2^(1/8): a quantile is at most 9 % too high, and the JSON is a few hundred bytes.
type Histogram struct {
	Counts []int64 `json:"counts,omitempty"` // bucket i ends at 2^(i/8) ms
	Max    int64   `json:"max_ms"`
}

// Record adds a duration. One below 1 ms counts as 1 ms.
func (h *Histogram) Record(d time.Duration) {
	ms := max(float64(d)/float64(time.Millisecond), 1)
	i := int(math.Ceil(bucketsPerDoubling * math.Log2(ms)))
	if i >= len(h.Counts) {
		h.Counts = append(h.Counts, make([]int64, i+1-len(h.Counts))...)
	}
	h.Counts[i]++
	h.Max = max(h.Max, int64(math.Ceil(ms)))
}

// Valid reports whether calls of Record may have made h.
func (h Histogram) Valid() bool {
	return h.Max >= 0 && len(h.Counts) <= maxBuckets && !slices.ContainsFunc(h.Counts, func(n int64) bool { return n < 0 })
}

// Quantiles are in milliseconds. They are 0 if nothing is recorded.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Quantiles returns the usual quantiles.
func (h Histogram) Quantiles() Quantiles {
	return Quantiles{h.quantile(0.5), h.quantile(0.9), h.quantile(0.99), float64(h.Max)}
}

// quantile returns the upper end of the bucket that contains the quantile q.
func (h Histogram) quantile(q float64) float64 {
	total := int64(0)
	for _, n := range h.Counts {
		total += n
	}
	rank := int64(math.Ceil(q * float64(total)))
	for i, n := range h.Counts {
		if rank -= n; rank <= 0 && n > 0 {
			return math.Round(min(bucketEnd(i), float64(h.Max))*10) / 10
		}
	}
	return 0
}

// Column is a range of durations with its count.
type Column struct {
	From, To time.Duration
	Count    int64
}

// Columns returns two columns for each doubling, from the first one that is not
// empty, for a chart with a logarithmic axis.
func (h Histogram) Columns() (all []Column) {
	for i := h.first() * bucketsPerColumn; i < len(h.Counts); i += bucketsPerColumn {
		c := Column{From: duration(bucketEnd(i - 1)), To: duration(bucketEnd(i + bucketsPerColumn - 1))}
		for _, n := range h.Counts[i:min(i+bucketsPerColumn, len(h.Counts))] {
			c.Count += n
		}
		all = append(all, c)
	}
	return all
}

// Position returns the place of a duration on the axis of Columns: 0 is the lower
// end of the first column, 1 its upper end.
func (h Histogram) Position(ms float64) float64 {
	return max(bucketsPerDoubling*math.Log2(max(ms, 1))/bucketsPerColumn-float64(h.first()), 0)
}

// first returns the index of the first column that is not empty.
func (h Histogram) first() int {
	for i, n := range h.Counts {
		if n > 0 {
			return i / bucketsPerColumn
		}
	}
	return 0
}

// bucketEnd returns the upper end of bucket i in ms. The first bucket begins at 0.
func bucketEnd(i int) float64 {
	if i < 0 {
		return 0
	}
	return math.Exp2(float64(i) / bucketsPerDoubling)
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
