package tracing

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// settled records how the message was settled. On a span that has ended the SDK
// ignores it.
func (d *delivery) settled(op operation) {
	switch {
	case d.tally != nil:
		d.tally.settled(op)
	case d.work.span.IsRecording():
		d.work.span.SetAttributes(settlementKey.String(string(op)))
	}
	if d.outer != nil {
		d.outer.settled(op)
	}
}

// tally counts how the messages of a batch were settled.
type tally struct {
	span   trace.Span
	mu     sync.Mutex
	counts map[operation]int
}

func (t *tally) settled(op operation) {
	if !t.span.IsRecording() {
		return
	}
	// The lock is held while recording, else an older number could come last.
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[operation]int)
	}
	t.counts[op]++
	t.span.SetAttributes(attribute.Int("messaging.nats.batch."+string(op)+"s", t.counts[op]))
}
