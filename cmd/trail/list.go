package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"example.org/ordertrail/trail"
)

// Bounds of a list of stories.
const (
	maxStories   = 50
	maxTraces    = 1000 // traces that a list is made of, the newest
	listTime     = 500 * time.Millisecond
	listInterval = time.Second // a list that all clients share is not made more often
)

// summary is a story in a list.
type summary struct {
	ID       string        `json:"id"` // of the trace that the story starts at, mostly its first
	Name     string        `json:"name"`
	Services []string      `json:"services"` // sorted
	Spans    int           `json:"spans"`
	Traces   int           `json:"traces"`
	Errors   int           `json:"errors"` // spans that failed
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration_ns"`
}

func summarize(s *trail.Story, id string) summary {
	sum := summary{ID: id, Name: title(s, id), Traces: len(s.Lanes), Start: s.Start, Duration: s.Duration}
	services := map[string]bool{}
	for _, l := range s.Lanes {
		sum.Spans += len(l.Spans)
		for _, n := range l.Spans {
			services[n.Service] = true
			if n.Status == trail.StatusError {
				sum.Errors++
			}
		}
	}
	sum.Services = slices.Sorted(maps.Keys(services))
	return sum
}

// stories returns the stories of these traces, in their order. It leaves out the rest after
// maxStories, and after listTime, which the first may exceed.
func stories(ctx context.Context, source trail.Source, traces []string, o options) (list []summary, more bool, err error) {
	making, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	shown := map[string]bool{} // traces
	for _, id := range traces {
		if err := ctx.Err(); err != nil { // the client has gone: this is no list for others
			return nil, false, err
		}
		if shown[id] {
			continue
		}
		if len(list) == maxStories || len(list) > 0 && making.Err() != nil {
			return list, true, nil
		}
		building := making
		if len(list) == 0 {
			building = ctx
		}
		s, err := build(building, source, id, o)
		if errors.Is(err, trail.ErrNotFound) { // dropped meanwhile
			continue
		}
		if ctx.Err() == nil && building.Err() != nil {
			return list, true, nil
		}
		if err != nil {
			return list, false, err
		}
		if len(s.Lanes) == 0 {
			continue
		}
		// From its first trace, the story may be larger: that of a hub has all its consequences.
		if first := s.Lanes[0].TraceID; first != id && !shown[first] {
			if whole, err := build(building, source, first, o); err == nil && contains(whole, s) {
				s, id = whole, first
			}
		}
		for _, l := range s.Lanes {
			shown[l.TraceID] = true
		}
		list = append(list, summarize(s, id))
	}
	return list, false, nil
}

// contains reports whether a story has all spans of another one.
func contains(s, part *trail.Story) bool {
	has := map[trail.Ref]bool{}
	for _, l := range s.Lanes {
		for _, n := range l.Spans {
			has[n.Ref] = true
		}
	}
	return !slices.ContainsFunc(part.Lanes, func(l trail.Lane) bool {
		return slices.ContainsFunc(l.Spans, func(n trail.Node) bool { return !has[n.Ref] })
	})
}

// recent is the list of the newest stories, made once for all clients.
type recent struct {
	mu    sync.Mutex
	at    time.Time
	added int
	list  list
}

// get returns the list. It is stale if it lacks spans that have arrived since, because it
// is not made more often than every listInterval.
func (r *recent) get(ctx context.Context, store *trail.Store, o options) (l list, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	added := store.Size().Added
	if added != r.added && time.Since(r.at) >= listInterval {
		ids, more := store.RecentIDs(maxTraces)
		if l.Stories, l.More, err = stories(ctx, store, ids, o); err != nil {
			return list{}, err
		}
		l.More = l.More || more
		r.at, r.added, r.list = time.Now(), added, l
	}
	l = r.list
	l.stale = added != r.added
	return l, nil
}
