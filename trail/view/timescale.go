package view

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"example.org/ordertrail/trail"
)

// timescale maps times to positions. A trail can be 20 ms of work around 3 s of waiting
// for a deadline. On a linear scale the work would be too thin to see, so the timescale
// shortens long waits, and marks them as cut.
type timescale struct {
	parts []part
	share float64 // percent of the width per nanosecond outside the cuts
}

// part is a span of time and its position.
type part struct {
	from, to time.Duration
	x, width float64 // percent
	cut      bool
}

const (
	cutFrom    = 20 * time.Millisecond // shorter waits are not cut
	cutShare   = 0.25                  // a wait is cut if it is this part of the remaining time
	cutsMost   = 8                     // waits that are cut
	cutWidth   = 5.0                   // percent, of each cut
	cutsWidth  = 32.0                  // percent, of all cuts
	scaleStart = 0.6                   // percent, margin on either side
)

// newTimescale returns a scale for spans that begin and end at the moments, which are not
// negative.
func newTimescale(moments []time.Duration) timescale {
	moments = slices.Compact(slices.Sorted(slices.Values(moments)))
	if len(moments) == 0 {
		moments = []time.Duration{0}
	}
	if len(moments) == 1 {
		moments = append(moments, moments[0]+1)
	}
	var parts []part
	for i := range moments[1:] {
		parts = append(parts, part{from: moments[i], to: moments[i+1]})
	}
	// Cut the longest waits, as long as they dominate the rest.
	longest := make([]int, len(parts))
	left := time.Duration(0)
	for i, p := range parts {
		longest[i], left = i, left+p.to-p.from
	}
	slices.SortStableFunc(longest, func(a, b int) int {
		return cmp.Compare(parts[b].to-parts[b].from, parts[a].to-parts[a].from)
	})
	cuts := 0
	for _, i := range longest {
		took := parts[i].to - parts[i].from
		if took < cutFrom || float64(took) < cutShare*float64(left) || cuts == cutsMost || len(parts) == 1 {
			break
		}
		parts[i].cut = true
		left -= took
		cuts++
	}
	each := 0.0
	if cuts > 0 {
		each = min(cutWidth, cutsWidth/float64(cuts))
	}
	s := timescale{share: (100 - 2*scaleStart - each*float64(cuts)) / float64(max(left, 1))}
	x := scaleStart
	for _, p := range parts {
		p.x, p.width = x, each
		if !p.cut {
			p.width = s.share * float64(p.to-p.from)
		}
		x += p.width
		s.parts = append(s.parts, p)
	}
	return s
}

// at returns the position of a moment, in percent.
func (s timescale) at(t time.Duration) float64 {
	i, _ := slices.BinarySearchFunc(s.parts, t, func(p part, t time.Duration) int { return cmp.Compare(p.to, t) })
	if i == len(s.parts) {
		last := s.parts[i-1]
		return last.x + last.width
	}
	p := s.parts[i]
	return p.x + p.width*min(max(float64(t-p.from)/float64(p.to-p.from), 0), 1)
}

// Mark is a moment on the axis, or a cut.
type Mark struct {
	X, Width string
	Label    string
}

const markEvery = 9.0 // percent between two marks, at least

// marks returns the labelled moments of the axis, and the cuts.
func (s timescale) marks() (ticks, cuts []Mark) {
	step := niceStep(markEvery / s.share)
	taken := math.Inf(-1)
	add := func(t time.Duration) {
		x := s.at(t)
		if x-taken < markEvery*0.8 || x > 93 {
			return
		}
		taken = x
		ticks = append(ticks, Mark{X: percent(x), Label: "+" + axisLabel(t)})
	}
	add(s.parts[0].from)
	for _, p := range s.parts {
		if p.cut {
			cuts = append(cuts, Mark{percent(p.x), percent(p.width), trail.Duration(p.to - p.from)})
			add(p.to)
			continue
		}
		for t := (p.from + step - 1) / step * step; t >= p.from && t <= p.to; t += step { // it may overflow
			add(t)
		}
	}
	return ticks, cuts
}

// niceStep returns the first of 1, 2, 5, 10, 20, 50… that is at least ns.
func niceStep(ns float64) time.Duration {
	ten := math.Pow10(int(math.Floor(math.Log10(ns))))
	for _, m := range []float64{1, 2, 5} {
		if m*ten >= ns*(1-1e-9) {
			return max(time.Duration(m*ten), 1)
		}
	}
	return max(time.Duration(10*ten), 1)
}

// axisLabel formats a moment in its shortest form.
func axisLabel(t time.Duration) string {
	switch {
	case t == 0:
		return "0"
	case t < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(t)/1e3)
	case t < time.Second:
		return fmt.Sprintf("%.3g ms", float64(t)/1e6)
	}
	return fmt.Sprintf("%.4g s", t.Seconds())
}
