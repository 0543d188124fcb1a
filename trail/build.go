package trail

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Bounds of a search, beside the number of spans.
const (
	searchTraces = 1000 // traces with the value of the key
	searchRounds = 1000 // questions to the source, each after the answers to those before
)

// partialSearch is the gap of a search that ended early, for the reason that follows.
const partialSearch = "The search for spans ended early, because %s: some may be missing."

var (
	traceIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	spanIDForm  = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// Resolve returns the start that an id names: all spans of a trace, by its id of 32 hex
// digits in lower case, or a span, by its id of 16. For other texts, and for spans that
// the source does not have, it returns [ErrNotFound]. See [Source] for other errors.
func Resolve(ctx context.Context, source Source, id string) (Ref, error) {
	switch {
	case traceIDForm.MatchString(id):
		return Ref{TraceID: id}, nil
	case spanIDForm.MatchString(id):
		traceID, err := source.TraceOf(ctx, id)
		return Ref{traceID, id}, err
	}
	return Ref{}, ErrNotFound
}

// Build finds the story of a start in a source. For the start see [Stitch]; without one,
// the story starts at all spans that have Options.Value. Build returns [ErrNotFound] if the
// source has no such spans, and an error of the source if it has not returned any. If the
// search ends early, the story has a gap.
func Build(ctx context.Context, source Source, o Options, start ...Ref) (*Story, error) {
	found, err := Collect(ctx, source, o, start...)
	if err == nil && len(found.Spans) == 0 {
		err = notFound(found.Partial)
	}
	if err != nil {
		return nil, err
	}
	return Stitch(found, o, start...), nil
}

// Collect returns the spans that [Build] makes a story of, and others. No spans are no
// error.
func Collect(ctx context.Context, source Source, o Options, start ...Ref) (Spans, error) {
	c := collector{graph: newGraph(nil, o.Key), traces: map[string]bool{}, linking: map[string]bool{}}
	if o.Value != "" {
		found, err := source.Find(ctx, o.Key, o.Value, searchTraces)
		if err != nil {
			return Spans{}, fmt.Errorf("find %s: %w", o.Key, err)
		}
		c.add(found)
	}
	var ids []string
	for _, r := range start {
		if !c.traces[r.TraceID] {
			c.traces[r.TraceID] = true
			ids = append(ids, r.TraceID)
		}
	}
	if len(ids) > 0 {
		found, err := source.Traces(ctx, ids...)
		if err != nil {
			return Spans{}, fmt.Errorf("get the start's traces: %w", err)
		}
		c.add(found)
	}
	most := 2 * max(o.MaxSpans, DefaultMaxSpans)
	for round := 0; len(c.Spans.Spans) > 0; round++ {
		if err := ctx.Err(); err != nil {
			return Spans{}, err
		}
		traces, linking := c.wanted(o, start)
		switch {
		case len(traces)+len(linking) == 0:
			return c.Spans, nil
		case round == searchRounds:
			c.partial(fmt.Sprintf("it would have taken more than %d steps", searchRounds))
			return c.Spans, nil
		case len(c.Spans.Spans) > most:
			c.partial(fmt.Sprintf("it has found more than %d spans", most))
			return c.Spans, nil
		}
		if !c.ask(ctx, source.Traces, traces) || !c.ask(ctx, source.Linking, linking) {
			return c.Spans, nil
		}
	}
	return c.Spans, nil
}

// collector has the spans that were found so far.
type collector struct {
	Spans
	graph   *graph          // of them
	traces  map[string]bool // those that the source was asked for, or has returned
	linking map[string]bool // those whose reverse links it was asked for
}

func (c *collector) add(found Spans) {
	var added []Span
	for _, s := range found.Spans {
		c.traces[s.TraceID] = true
		if i, ok := c.graph.index[s.Ref]; !ok || c.graph.vertices[i].span == nil {
			added = append(added, s)
		}
	}
	c.graph.add(added)
	c.Spans.Spans = append(c.Spans.Spans, added...)
	c.Truncated = c.Truncated || found.Truncated
	if c.Partial == "" {
		c.Partial = found.Partial
	}
}

func (c *collector) partial(why string) {
	if c.Partial == "" {
		c.Partial = fmt.Sprintf(partialSearch, why)
	}
}

// ask adds what a search returns, and reports whether it has not failed.
func (c *collector) ask(ctx context.Context, search func(context.Context, ...string) (Spans, error), ids []string) bool {
	if len(ids) == 0 {
		return true
	}
	found, err := search(ctx, ids...)
	c.add(found)
	if err != nil {
		c.partial("the source did not answer, or not in time")
	}
	return err == nil
}

// wanted returns the traces that the story reaches, and that are not known: those of spans
// that are missing, and those whose reverse links are.
func (c *collector) wanted(o Options, start []Ref) (traces, linking []string) {
	g := c.graph
	missing, reached := map[string]bool{}, map[string]bool{}
	chosen := g.choose(o, start)
	for _, story := range g.undecided(chosen.stories) {
		for i, member := range story.member {
			id := g.vertices[i].ref.TraceID
			if member && !c.linking[id] {
				reached[id] = true
			}
			if member && !c.traces[id] {
				missing[id] = true
			}
		}
	}
	if chosen.batch >= 0 { // only some of its stories were made
		for _, j := range g.vertices[chosen.batch].joints {
			if id := g.vertices[j.to].ref.TraceID; j.cause && j.link != nil && !c.traces[id] {
				missing[id] = true
			}
		}
	}
	maps.Copy(c.traces, missing)
	maps.Copy(c.linking, reached)
	return slices.Sorted(maps.Keys(missing)), slices.Sorted(maps.Keys(reached))
}

// undecided returns the stories, and those that meet at their borders in a batch that is a
// cause or a child of one of their spans: whether such a batch belongs to a story depends on
// all its messages.
func (g *graph) undecided(stories []*closure) []*closure {
	seen := map[int]bool{}
	for k := 0; k < len(stories) && len(stories) < meetings; k++ {
		c := stories[k]
		for i, leaf := range c.leaf {
			if leaf && !seen[i] && len(stories) < meetings && slices.ContainsFunc(g.vertices[i].joints, func(j joint) bool {
				return c.member[j.to] && !j.cut && (!j.cause || j.link == nil)
			}) {
				seen[i] = true
				stories = append(stories, g.meet(i).stories...)
			}
		}
	}
	return stories
}
