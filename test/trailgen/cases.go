package trailgen

import (
	"cmp"
	"fmt"
	"slices"

	"example.org/ordertrail/trail"
)

// want returns what is expected of a story.
func (b *builder) want(story int, in func(*span) bool) (w Story) {
	for _, s := range b.spans {
		if s.story == story && b.borders[s] == nil && in(s) {
			w.Spans = append(w.Spans, s.Ref)
		}
		if own, ok := b.borders[s][story]; ok {
			w.Borders = append(w.Borders, Border{s.Ref, own})
			w.Gaps = append(w.Gaps, b.dropped(s)...)
		}
	}
	w.Retries, w.Gaps = slices.Clone(b.retries[story]), append(w.Gaps, b.gaps[story]...)
	w.sort()
	return w
}

func (w *Story) sort() {
	refs := func(a, b trail.Ref) int { return cmp.Compare(a.TraceID+a.SpanID, b.TraceID+b.SpanID) }
	slices.SortFunc(w.Spans, refs)
	slices.SortFunc(w.Borders, func(a, b Border) int { return refs(a.Ref, b.Ref) })
	slices.SortFunc(w.Retries, func(a, b [2]trail.Ref) int { return cmp.Or(refs(a[0], b[0]), refs(a[1], b[1])) })
	slices.Sort(w.Gaps)
}

// cases returns a start at two spans of a story, and at one of its traces.
func (b *builder) cases(story int) (all []Case) {
	want := b.want(story, func(*span) bool { return true })
	for range 2 {
		all = append(all, Case{"span", b.options(), b.one(story).Ref, want})
	}
	at := b.one(story)
	for s := range b.borders {
		if s.TraceID == at.TraceID {
			return all // the trace has spans of several stories
		}
	}
	return append(all, Case{"trace", b.options(), trail.Ref{TraceID: at.TraceID}, want})
}

// lose adds a story that is a tree, and loses one of its spans: what it caused remains
// together, apart from the rest.
func (b *builder) lose(story int) []Case {
	b.grow(story, b.span(story, nil, "server"), 30)
	all := b.of(story)
	lost := all[1+b.IntN(len(all)-1)]
	below := func(s *span) bool {
		for ; s != nil; s = s.cause {
			if s.cause == lost {
				return true
			}
		}
		return false
	}
	gap := ""
	for _, s := range all {
		switch {
		case s.cause != lost:
		case s.ParentID == lost.SpanID:
			gap = cmp.Or(gap, trail.GapParent)
		case s.style != plain:
			gap = cmp.Or(gap, trail.GapLinkTarget)
		}
	}
	b.spans = slices.DeleteFunc(b.spans, func(s *span) bool { return s == lost })
	for i, r := range b.retries[story] { // the third delivery follows the first
		if next := i + 1; r[1] == lost.Ref && next < len(b.retries[story]) && b.retries[story][next][0] == lost.Ref {
			b.retries[story] = append(b.retries[story], [2]trail.Ref{r[0], b.retries[story][next][1]})
		}
	}
	retries := func(in func(*span) bool) (kept [][2]trail.Ref) {
		for _, r := range b.retries[story] {
			if slices.ContainsFunc(b.spans, func(s *span) bool { return s.Ref == r[0] && in(s) }) && slices.ContainsFunc(b.spans, func(s *span) bool { return s.Ref == r[1] && in(s) }) {
				kept = append(kept, r)
			}
		}
		return kept
	}
	above := func(s *span) bool { return !below(s) }
	var cases []Case
	for i, in := range []func(*span) bool{above, below} {
		name := []string{"above a lost span", "below a lost span"}[i]
		want := b.want(story, in)
		if len(want.Spans) == 0 {
			continue
		}
		want.Retries = retries(in)
		if name == "below a lost span" && gap != "" {
			want.Gaps = append(want.Gaps, "missing "+lost.SpanID)
		}
		want.sort()
		cases = append(cases, Case{name, b.options(), want.Spans[b.IntN(len(want.Spans))], want})
	}
	return cases
}

// Got returns a story in the form of what is expected.
func Got(s *trail.Story) (got Story) {
	for _, l := range s.Lanes {
		for _, n := range l.Spans {
			if n.Batch != nil && n.Batch.Boundary {
				got.Borders = append(got.Borders, Border{n.Ref, n.Batch.Own})
			} else {
				got.Spans = append(got.Spans, n.Ref)
			}
		}
	}
	for _, e := range s.Edges {
		if e.Kind == trail.EdgeRetry {
			got.Retries = append(got.Retries, [2]trail.Ref{e.From, e.To})
		}
	}
	for _, g := range s.Gaps {
		kind := g.Kind
		if kind == trail.GapParent || kind == trail.GapLinkTarget {
			kind = "missing"
		}
		got.Gaps = append(got.Gaps, kind+" "+g.SpanID)
	}
	got.Meet = len(s.Stories)
	got.sort()
	return got
}

// Differences compares two stories, and returns "" if they are the same.
func Differences(got, want Story) string {
	text := ""
	if !slices.Equal(got.Spans, want.Spans) {
		text += fmt.Sprintf("%d spans, want %d\n", len(got.Spans), len(want.Spans))
	}
	if !slices.Equal(got.Borders, want.Borders) {
		text += fmt.Sprintf("borders %v, want %v\n", got.Borders, want.Borders)
	}
	if !slices.Equal(got.Retries, want.Retries) {
		text += fmt.Sprintf("%d retries, want %d\n", len(got.Retries), len(want.Retries))
	}
	if !slices.Equal(got.Gaps, want.Gaps) {
		text += fmt.Sprintf("gaps %v, want %v\n", got.Gaps, want.Gaps)
	}
	if got.Meet != want.Meet {
		text += fmt.Sprintf("%d stories meet, want %d\n", got.Meet, want.Meet)
	}
	return text
}

func (b *builder) dropped(s *span) []string {
	if s.DroppedLinks == 0 {
		return nil
	}
	return []string{trail.GapLinksDropped + " " + s.SpanID}
}

// hub returns a world with one story, in which a span has 99 consequences or more.
func (b *builder) hub() World {
	b.keyed = false
	b.grow(0, b.span(0, nil, "server"), 5)
	hub := b.span(0, b.one(0), "producer")
	n := 99 + b.IntN(2)*b.IntN(30)
	for i := range n {
		s := b.consume(hub, b.IntN(styles))
		s.branch = i + 1
		if b.IntN(10) == 0 {
			b.grow(0, s, 2)
		}
	}
	w := World{}
	all := b.want(0, func(*span) bool { return true })
	branch := 1 + b.IntN(n)
	one := b.want(0, func(s *span) bool { return s.branch == branch || s.branch == 0 })
	one.Retries = slices.DeleteFunc(one.Retries, func(r [2]trail.Ref) bool { return !slices.Contains(one.Spans, r[0]) })
	one.Gaps = append(one.Gaps, trail.GapHub+" "+hub.SpanID)
	one.sort()
	if n <= 100 {
		one = all
	}
	for _, s := range b.spans {
		w.Spans = append(w.Spans, s.Span)
		switch s.branch {
		case branch:
			w.Cases = append(w.Cases, Case{"below a hub", trail.Options{}, s.Ref, one})
		case 0:
			w.Cases = append(w.Cases, Case{"a hub or above", trail.Options{}, s.Ref, all})
		}
	}
	b.Shuffle(len(w.Spans), func(i, j int) { w.Spans[i], w.Spans[j] = w.Spans[j], w.Spans[i] })
	return w
}
