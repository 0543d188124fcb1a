package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// A dead letter that is sent again reaches the consumer that failed, and no other, also
// within the duplicate window. The handler gets the event as it was stored, in a span
// that links the producer and the failure.
func TestRedrive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var got, bystander calls
	other := handledBy(func(_ context.Context, e event.Event) error { bystander.add(e); return nil })
	other.Name = "bystander"
	if err := stream.Provision(b.ctx, b.JetStream(), stream.Topology{
		AckWait: 500 * time.Millisecond, Durables: []stream.Durable{handledBy(nil), other},
	}); err != nil {
		t.Fatal(err)
	}
	c := newTraced(t, b.server)
	id := event.NewOrderID()
	guard := stream.First(event.OrderCreated, id)
	guard.MsgID = "key/1"
	stored, err := c.PublishOnce(b.ctx, created(id), guard)
	if err != nil {
		t.Fatal(err)
	}
	consume(t, b.Client, other)
	consume(t, c.Client, handledBy(func(_ context.Context, e event.Event) error {
		if got.add(e) < 3 {
			return stream.Permanent(errHandler)
		}
		return nil
	}))
	letter := letters(t, b, 1)[0]
	systemtest.Until(t, "the bystander has the event", func() bool { return len(bystander.all()) == 1 })
	if err := b.Redrive(b.ctx, letter.ID); err != nil {
		t.Fatal(err)
	}
	again := letters(t, b, 1) // it fails once more, as a new dead letter
	if again[0].ID == letter.ID || again[0].Subject != letter.Subject {
		t.Errorf("the second dead letter is %+v, the first was %+v", again[0], letter)
	}
	if err := b.Redrive(b.ctx, letter.ID); !errors.Is(err, stream.ErrNoDeadLetter) {
		t.Errorf("the first one once more: %v", err)
	}
	if err := b.Redrive(b.ctx, again[0].ID); err != nil {
		t.Fatal(err)
	}
	letters(t, b, 0)
	systemtest.Until(t, "it is handled a third time", func() bool { return len(got.all()) == 3 })
	for i, e := range got.all() {
		if e.Type != event.OrderCreated || e.Key != id || e.Sequence != stored.Sequence || e.Subject != stored.Subject ||
			e.Delivery != 1 || e.Redriven != (i > 0) || string(e.Data) != string(stored.Data) {
			t.Errorf("call %d: %+v", i, e)
		}
	}
	if n := len(bystander.all()); n != 1 {
		t.Errorf("the bystander got %d events, want 1", n)
	}
	producer := c.span(t, "publish orders.created.{order_id}", 0).SpanContext()
	failure := c.span(t, "process orders.created.{order_id}", 0).SpanContext()
	for i := range 2 {
		processed := c.span(t, "process redrive.tester.orders.created.{order_id}", i)
		if processed.Parent().IsValid() {
			t.Error("the processing is a child")
		}
		if got := link(processed, "triggered_by"); got.SpanID() != producer.SpanID() {
			t.Errorf("processing %d links producer %s, want %s", i, got.SpanID(), producer.SpanID())
		}
		if got := link(processed, "redrive_of"); got.SpanID() != failure.SpanID() {
			t.Errorf("processing %d links failure %s, want %s", i, got.SpanID(), failure.SpanID())
		}
		failure = processed.SpanContext()
	}
	for _, id := range []string{"", "tester", "tester.x", "*.1", "tester.1.2", ">"} {
		if err := b.Redrive(b.ctx, id); err == nil || errors.Is(err, stream.ErrNoDeadLetter) {
			t.Errorf("Redrive(%q): %v", id, err)
		}
	}
}

// A copy of an event that was never stored, or of a foreign message, does not reach the
// handler.
func TestRedriveForged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var got calls
	consume(t, b.Client, handledBy(func(_ context.Context, e event.Event) error { got.add(e); return nil }))
	id := event.NewOrderID()
	m, err := created(id).Message(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{m.Subject, "orders.created.x", "what", "redrive.tester." + m.Subject} {
		if _, err := b.JetStream().PublishMsg(b.ctx, &nats.Msg{Subject: event.Redrive(durable, subject), Header: m.Header, Data: m.Data}); err != nil {
			t.Fatal(err)
		}
	}
	systemtest.Until(t, "all are settled", func() bool {
		c, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, durable)
		return err == nil && c.CachedInfo().AckFloor.Stream == 4
	})
	letters(t, b, 0)
	if n := len(got.all()); n > 0 {
		t.Errorf("handled %d", n)
	}
}

// A stream that takes no messages ends a Redrive, and the dead letter stays.
func TestRedriveToFullStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := stream.Provision(b.ctx, b.JetStream(), stream.Topology{Durables: []stream.Durable{handledBy(nil)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PublishOnce(b.ctx, created(event.NewOrderID()), stream.Guard{Filter: "orders.*.*"}); err != nil {
		t.Fatal(err)
	}
	consume(t, b.Client, handledBy(func(context.Context, event.Event) error { return stream.Permanent(errHandler) }))
	letter := letters(t, b, 1)[0]
	orders, err := b.JetStream().Stream(b.ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	full := orders.CachedInfo().Config
	full.MaxMsgs = 1
	if _, err := b.JetStream().UpdateStream(b.ctx, full); err != nil {
		t.Fatal(err)
	}
	b.RedriveWithin(300 * time.Millisecond)
	if err := b.Redrive(b.ctx, letter.ID); err == nil || b.ctx.Err() != nil || !strings.Contains(err.Error(), "maximum messages exceeded") {
		t.Errorf("redrive: %v", err)
	}
	letters(t, b, 1)
}
