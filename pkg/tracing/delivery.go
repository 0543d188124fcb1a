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
	tracer  *Tracer
	ctx     context.Context // of the process span; settle spans need its baggage too
	span    trace.Span
	key     shapeKey
	outcome interface{ settled(operation) }
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
	if d.span.IsRecording() {
		if err != nil {
			d.span.AddEvent(inProgressEvent, trace.WithAttributes(semconv.ErrorTypeKey.String(errorType(err))))
		} else {
			d.span.AddEvent(inProgressEvent)
		}
	}
	return err
}

const inProgressEvent = "messaging.nats.in_progress"

// settle runs do within a settle span. Its parent is the process span even
// where the caller has a span in hand, and even if the process span has ended.
func (d *delivery) settle(op operation, do func() error) (err error) {
	key := d.key
	key.operation = op
	sh := d.tracer.shape(key)
	_, span := d.tracer.tracer().Start(d.ctx, sh.name, sh.kind,
		trace.WithAttributes(sh.with(d.Subject(), nil)...))
	if span.IsRecording() {
		md, _ := d.Metadata()
		describeMessage(span, d.Headers(), md)
	}
	returned := false
	defer conclude(span, &returned, &err)
	err = do()
	if err == nil {
		d.outcome.settled(op)
	}
	returned = true
	return err
}
