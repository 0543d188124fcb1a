package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"example.org/ordertrail/trail"
)

var idForm = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{16})$`)

// isID reports whether a text has the form of a trace id or a span id.
func isID(text string) bool { return idForm.MatchString(text) }

// options are what a story is built with.
type options struct {
	key   string // attribute that separates stories, "" for none
	until string // name of the span that ends the critical path, "" for the last
}

// build returns the story of a trace or a span, by its id.
func build(ctx context.Context, source trail.Source, id string, o options) (*trail.Story, error) {
	start, err := trail.Resolve(ctx, source, id)
	if err != nil {
		return nil, err
	}
	opts := trail.Options{Key: o.key}
	if o.until != "" {
		opts.Until = func(s *trail.Span) bool { return s.Name == o.until }
	}
	s, err := trail.Build(ctx, source, opts, start)
	if err == nil && len(s.Lanes) == 0 && start.SpanID != "" { // its trace is so large that the source left it out
		s, err = trail.Build(ctx, source, opts, trail.Ref{TraceID: start.TraceID})
	}
	return s, err
}

// explain turns the error of a source into a sentence with a remedy.
func explain(err error, id, where string) error {
	switch {
	case errors.Is(err, trail.ErrNotFound):
		why := "it was not sampled, has not arrived yet, or is no longer kept"
		if _, partial, ok := strings.Cut(err.Error(), trail.ErrNotFound.Error()+": "); ok {
			why = partial
		}
		return fmt.Errorf("no span of %s is in %s: %s", id, where, why)
	case errors.Is(err, trail.ErrUnsupported):
		return fmt.Errorf("%s finds no span by its id alone: use the id of its trace, of 32 digits", where)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer in time: %w", where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// write prints a story for people.
func write(out io.Writer, s *trail.Story, id string, o trail.WriteOptions) error {
	if err := trail.Write(out, title(s, id), s, o); err != nil || len(s.Stories) == 0 {
		return err
	}
	fmt.Fprintln(out, "\nstories that meet here:")
	for _, m := range s.Stories {
		fmt.Fprintln(out, trail.Wrap(fmt.Sprintf("  %s  %s, %s", storyID(m), strings.TrimSpace(trail.Printable(m.Service+": "+m.Name+" "+m.Value)), trail.Counted(m.Links, "link")), 4))
	}
	return nil
}

// storyID is the id that the story of a meeting is found by: its first span's, or its
// trace's if that span is missing.
func storyID(m trail.Meeting) string {
	if m.Name == "" {
		return m.TraceID
	}
	return m.SpanID
}

// title names a story.
func title(s *trail.Story, id string) string {
	if len(s.Lanes) == 0 {
		return "story of " + id
	}
	return strings.TrimSpace(s.Lanes[0].Service + ": " + s.Lanes[0].Name)
}
