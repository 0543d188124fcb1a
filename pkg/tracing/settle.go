package tracing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// delivery is the message that a handler gets.
type delivery struct {
	jetstream.Msg
	message
	process     *operation // that handles it
	template    string
	destination string      // of span names
	tally       *tally      // of the batch, nil for a single message
	outer       *delivery   // the same message in an outer Process or ProcessBatch
	covered     atomic.Bool // an inner delivery is settling the message
}

// of makes d deliver msg. Only the innermost delivery of a message makes settle
// spans; outer ones record the outcome.
func (d *delivery) of(ctx context.Context, msg jetstream.Msg) {
	d.Msg, d.outer = msg, findDelivery(ctx, msg, d.md)
	if d.outer == msg {
		d.Msg = d.outer.Msg
	}
}

func (d *delivery) Ack() error  { return d.settle(opAck, d.Msg.Ack) }
func (d *delivery) Nak() error  { return d.settle(opNak, d.Msg.Nak) }
func (d *delivery) Term() error { return d.settle(opTerm, d.Msg.Term) }
func (d *delivery) DoubleAck(ctx context.Context) error {
	return d.settle(opAck, func() error { return d.Msg.DoubleAck(ctx) })
}
func (d *delivery) NakWithDelay(delay time.Duration) error {
	return d.settle(opNak, func() error { return d.Msg.NakWithDelay(delay) })
}

// TermWithReason does not record the reason, which is free text.
func (d *delivery) TermWithReason(reason string) error {
	return d.settle(opTerm, func() error { return d.Msg.TermWithReason(reason) })
}

// InProgress does not settle the message, so it is an event.
func (d *delivery) InProgress() error {
	err := d.Msg.InProgress()
	if d.process.span.IsRecording() {
		var attrs []attribute.KeyValue
		if err != nil {
			attrs = append(attrs, semconv.ErrorTypeKey.String(errorType(err)))
		}
		d.process.span.AddEvent("messaging.nats.in_progress", trace.WithAttributes(attrs...))
	}
	return err
}

// settle calls do in a settle span. Its parent is the process span, also if that
// has ended.
func (d *delivery) settle(name string, do func() error) (err error) {
	if d.covered.Load() {
		return do()
	}
	if d.outer != nil {
		d.outer.covered.Store(true)
		defer d.outer.covered.Store(false)
	}
	t := d.process.tracer
	s := operation{tracer: t, name: name, subject: d.subject, template: d.template, group: d.process.group, ctx: d.process.ctx, span: noSpan}
	if t.noSettleSpans {
		s.prepare(s.ctx)
	} else {
		s.startSpan(d.process.ctx, client, d.destination, &d.message, nil, nil)
	}
	returned := false
	defer s.conclude(&returned, &err, s.finish)
	if err = do(); err == nil {
		d.settled(name)
	}
	returned = true
	return err
}

// settled records the settlement on the process spans. The SDK ignores it if they
// have ended.
func (d *delivery) settled(name string) {
	if d.tally != nil {
		d.tally.add(d.process.span, name)
	} else {
		d.process.span.SetAttributes(settlementKey.String(name))
	}
	if d.outer != nil {
		d.outer.settled(name)
	}
}

// tally counts how the messages of a batch were settled.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(span trace.Span, name string) {
	t.mu.Lock()
	defer t.mu.Unlock() // after the span has the count, else an older one could come last
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	t.counts[name]++
	span.SetAttributes(attribute.Int("messaging.nats.batch."+name+"s", t.counts[name]))
}

// deliveryID identifies one delivery of a message, also if code of the caller has
// wrapped the message.
type deliveryID struct {
	stream, consumer string
	sequence         jetstream.SequencePair
	timestamp        int64 // tells a recreated stream from the old one
}

func idOf(md *jetstream.MsgMetadata) deliveryID {
	return deliveryID{md.Stream, md.Consumer, md.Sequence, md.Timestamp.UnixNano()}
}

// handlerContext is the context of a handler. It knows the messages that are being handled.
type handlerContext struct {
	context.Context
	one  *delivery
	many map[deliveryID]*delivery
}

type deliveriesKey struct{}

func (c *handlerContext) Value(key any) any {
	if key == (deliveriesKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// findDelivery returns the innermost delivery of msg that ctx is in, or nil.
func findDelivery(ctx context.Context, msg jetstream.Msg, md *jetstream.MsgMetadata) *delivery {
	if d, ok := msg.(*delivery); ok {
		return d
	}
	if md == nil {
		return nil
	}
	c, _ := ctx.Value(deliveriesKey{}).(*handlerContext)
	for ; c != nil; c, _ = c.Context.Value(deliveriesKey{}).(*handlerContext) {
		if d := c.one; d != nil && d.md != nil && idOf(d.md) == idOf(md) {
			return d
		}
		if d := c.many[idOf(md)]; d != nil {
			return d
		}
	}
	return nil
}
