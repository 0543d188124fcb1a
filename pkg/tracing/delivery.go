package tracing

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// delivery is the message a handler gets.
type delivery struct {
	jetstream.Msg
	work  *work
	key   *shapeKey // not to be changed
	tally *tally    // of the batch, nil for a single message
	outer *delivery // that this one is a part of, for instance of a batch
}

// of has d deliver msg. A message that is being processed already is settled by
// the innermost span alone, but the outer ones record how.
func (d *delivery) of(msg jetstream.Msg) {
	d.Msg = msg
	if outer, ok := msg.(*delivery); ok {
		d.Msg, d.outer = outer.Msg, outer
	}
}

func (d *delivery) Ack() error {
	return d.settle(opAck, d.Msg.Ack)
}

func (d *delivery) DoubleAck(ctx context.Context) error {
	return d.settle(opAck, func() error { return d.Msg.DoubleAck(ctx) })
}

func (d *delivery) Nak() error {
	return d.settle(opNak, d.Msg.Nak)
}

func (d *delivery) NakWithDelay(delay time.Duration) error {
	return d.settle(opNak, func() error { return d.Msg.NakWithDelay(delay) })
}

func (d *delivery) Term() error {
	return d.settle(opTerm, d.Msg.Term)
}

// TermWithReason does not record the reason: it is free text.
func (d *delivery) TermWithReason(reason string) error {
	return d.settle(opTerm, func() error { return d.Msg.TermWithReason(reason) })
}

// InProgress settles nothing, so it is an event.
func (d *delivery) InProgress() error {
	err := d.Msg.InProgress()
	if d.work.span.IsRecording() {
		if err != nil {
			d.work.span.AddEvent(inProgressEvent, trace.WithAttributes(semconv.ErrorTypeKey.String(errorType(err))))
		} else {
			d.work.span.AddEvent(inProgressEvent)
		}
	}
	return err
}

const inProgressEvent = "messaging.nats.in_progress"

// settling is a settle span in progress.
type settling struct {
	ctx         context.Context
	span        trace.Span
	shape       *shape
	instruments *instruments
	start       time.Time
}

func (s *settling) end(class string) {
	s.shape.took(s.ctx, s.instruments.operation, s.start, class)
	endSpan(s.span, class)
}

// settle runs do within a settle span. Its parent is the process span even
// where the caller has a span in hand, and even if the process span has ended.
func (d *delivery) settle(op operation, do func() error) (err error) {
	key := *d.key
	key.operation = op
	t := d.work.tracer
	s := &settling{shape: t.shape(&key), instruments: d.work.instruments}
	// The context of the process span, for settle spans need its baggage too.
	s.ctx, s.span = s.shape.starter().start(d.work.ctx, t.tracer(), d.Subject())
	if s.span.IsRecording() {
		md, _ := d.Metadata()
		t.describeMessage(s.span, messageID(d.Headers()), d.Msg, md)
	}
	if s.instruments.enabled(s.ctx) {
		s.start = time.Now()
	}
	returned := false
	defer conclude(s, s.span, &returned, &err)
	err = do()
	if err == nil {
		d.settled(op)
	}
	returned = true
	return err
}
