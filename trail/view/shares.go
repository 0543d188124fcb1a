package view

import (
	"cmp"
	"slices"
	"time"

	"example.org/ordertrail/trail"
)

// Share is a part of the critical path.
type Share struct {
	Label, Class string
	Duration     time.Duration
	Percent      float64
	X, Width     string // in Segments
}

// shares returns the segments of a critical path in the order of time, and their sums by
// service, the largest first. It returns nil for an empty path.
func shares(p trail.CriticalPath, class func(string) string) (segments, sums []Share) {
	if p.Duration <= 0 || len(p.Segments) == 0 {
		return nil, nil
	}
	by := map[string]int{}
	start := p.Segments[0].Offset
	for _, s := range p.Segments {
		label, style := s.Service, class(s.Service)
		if s.Wait {
			label, style = "waiting", "svc-wait"
		}
		// Segments too short to be seen are drawn with those before them.
		if n := len(segments); n > 0 && len(p.Segments) > rowsShown && segments[n-1].Duration < p.Duration/rowsShown {
			segments[n-1].Label, segments[n-1].Duration = "several", segments[n-1].Duration+s.Duration
		} else {
			segments = append(segments, Share{Label: label, Class: style, Duration: s.Duration, X: percent(float64(s.Offset-start) / float64(p.Duration) * 100)})
		}
		i, ok := by[label]
		if !ok {
			i = len(sums)
			by[label] = i
			sums = append(sums, Share{Label: label, Class: style})
		}
		sums[i].Duration += s.Duration
	}
	for i := range segments {
		segments[i].Width = percent(float64(segments[i].Duration) / float64(p.Duration) * 100)
	}
	for i := range sums {
		sums[i].Percent = float64(sums[i].Duration) / float64(p.Duration) * 100
	}
	slices.SortStableFunc(sums, func(a, b Share) int { return cmp.Compare(b.Duration, a.Duration) })
	if len(sums) > sumsShown {
		rest := &sums[sumsShown]
		rest.Label, rest.Class = "others", ""
		for _, s := range sums[sumsShown+1:] {
			rest.Duration += s.Duration
			rest.Percent += s.Percent
		}
		sums = sums[:sumsShown+1]
	}
	return segments, sums
}
