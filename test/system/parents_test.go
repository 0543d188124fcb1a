package system_test

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// The view of a story as parents alone would draw it has the parents that the application
// records with TRACE_TOPOLOGY=parent, but for batches.
func TestParentsAlone(t *testing.T) {
	t.Parallel()
	// The payment is slow, so that it is always the second outcome.
	slow := demo.Scenarios()[slices.IndexFunc(demo.Scenarios(), func(sc demo.Scenario) bool { return sc.Name == "slow" })]
	linked := tree(trail.Parents(storyOf(t, spansOf(t, slow, systemtest.Deadline(soon)))))
	recorded := tree(storyOf(t, spansOf(t, slow, systemtest.Deadline(soon), func(cfg *systemtest.Config) { cfg.Settings.ParentTraces = true })))
	if len(recorded) < 20 || !slices.Equal(linked, recorded) {
		t.Errorf("parents alone draw\n%s\nthe application records\n%s", strings.Join(linked, "\n"), strings.Join(recorded, "\n"))
	}
}

func storyOf(t *testing.T, spans tracetest.SpanStubs) *trail.Story {
	t.Helper()
	store := trail.NewStore(0)
	for _, s := range spans {
		store.OnEnd(s.Snapshot())
	}
	id := value(spans[0].Attributes, event.OrderIDKey)
	for _, s := range spans {
		if id == "" {
			id = value(s.Attributes, event.OrderIDKey)
		}
	}
	story, err := trail.Build(t.Context(), store, trail.Options{Key: string(event.OrderIDKey), Value: id})
	if err != nil {
		t.Fatal(err)
	}
	return story
}

// tree writes the spans of a story with their ancestors, sorted. It leaves out batches, and
// the deadline, which may come due after the system stops.
func tree(s *trail.Story) (lines []string) {
	parents := map[string]*trail.Node{}
	for i := range s.Lanes {
		for j := range s.Lanes[i].Spans {
			parents[s.Lanes[i].Spans[j].SpanID] = &s.Lanes[i].Spans[j]
		}
	}
	for _, n := range parents {
		line := ""
		for at := n; at != nil; at = parents[at.ParentID] {
			line += " < " + at.Service + ": " + at.Name
		}
		if n.Service != analytics.Name && !strings.Contains(line, "deadlines.due") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}
