package tracing

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// delivery is the message that a handler gets.
type delivery struct {
	jetstream.Msg // nil for a message of core NATS
	message
	process *processing // that handles it

	settling atomic.Int32 // settlements that are under way
	counted  bool         // by this operation
}

// Metadata does not parse the reply subject once more.
func (d *delivery) Metadata() (*jetstream.MsgMetadata, error) {
	if d.md != nil {
		return d.md, nil
	}
	return d.Msg.Metadata()
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
// has ended. If the message is that of an outer Process, possibly wrapped by the
// caller, do leads to settle of the outer delivery, which makes no second span.
func (d *delivery) settle(name string, do func() error) error {
	t, p := d.process.tracer, d.process
	recorded := func() error {
		err := do()
		if err == nil {
			p.record(name)
		}
		return err
	}
	if d.reply != "" {
		if by, _ := t.settling.LoadOrStore(d.reply, d); by != d { // d is the message of an outer Process
			return recorded()
		}
		d.settling.Add(1) // at the same time, for instance by a watchdog
		defer func() {
			if d.settling.Add(-1) == 0 {
				t.settling.Delete(d.reply)
			}
		}()
	}
	s := operation{tracer: t, name: name, subject: d.subject, template: d.template, bounded: p.bounded, group: p.group, ctx: p.ctx, span: noSpan}
	if t.noSettleSpans {
		s.begin(s.ctx)
	} else {
		s.startSpan(p.ctx, client, nil, nil)
		s.describe(&d.message)
	}
	return s.do(recorded, s.finish)
}
