package demo

import (
	"fmt"
	"strings"
	"testing"
)

// While it is brief, the narrator prints the first events and the number of the others.
func TestNarratorIsBrief(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	n := &narrator{out: &out}
	narrate := func(from, to int) {
		for i := from; i < to; i++ {
			n.event(uint64(i), fmt.Sprintf("event %d\n", i))
		}
	}
	narrate(0, 100)
	n.brief()
	narrate(100, 1000)
	n.end()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	shown := len(lines) - 1
	// A slow machine may refill the limit meanwhile.
	if want := 100 + briefBurst; shown < want || shown > want+briefLines {
		t.Errorf("%d events are shown, want %d", shown, want)
	}
	if last, want := lines[shown], fmt.Sprintf("and %d more events in a second", 1000-shown); strings.TrimSpace(last) != want {
		t.Errorf("the last line is %q, want %q", last, want)
	}
	if !n.reached(999) {
		t.Error("events that were left out are not reached")
	}
}
