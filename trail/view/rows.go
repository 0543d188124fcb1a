package view

import (
	"cmp"
	"slices"

	"example.org/ordertrail/trail"
)

// choose returns the spans that have rows, nil for all. Without a window these are those of
// the critical path and of the trace of the chosen span, failed ones, and the first of each
// trace, up to rowsShown.
func (w *Waterfall) choose(groups []Group, o Options) map[trail.Ref]bool {
	var all []trail.Node
	trace := ""
	for _, g := range groups {
		for _, l := range g.Lanes {
			for _, n := range l.Spans {
				all = append(all, n)
				if n.SpanID == o.Span {
					trace = n.TraceID
				}
			}
		}
	}
	if len(all) <= rowsShown {
		return nil
	}
	for from := 1; from <= len(all); from += rowsShown {
		w.Windows = append(w.Windows, Window{from, min(from+rowsShown-1, len(all))})
	}
	if from := min(max(o.From, 0), len(all)); from > 0 {
		all = all[from-1:]
	} else {
		rank := func(n trail.Node) int {
			switch {
			case n.SpanID == o.Span:
				return 0
			case n.TraceID == trace:
				return 1
			case n.Critical:
				return 2
			case n.Status == trail.StatusError:
				return 3
			case n.Depth == 0:
				return 4
			}
			return 5
		}
		slices.SortStableFunc(all, func(a, b trail.Node) int { return cmp.Compare(rank(a), rank(b)) })
	}
	shown := map[trail.Ref]bool{}
	for _, n := range all[:min(rowsShown, len(all))] {
		shown[n.Ref] = true
	}
	return shown
}
