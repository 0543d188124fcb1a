package stream_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	types := []event.Type{event.OrderCreated, event.PaymentConfirmed, event.PaymentRefunded}
	history := func(t *testing.T, e event.Event, want ...event.Type) {
		t.Helper()
		events, err := b.History(b.ctx, e, types...)
		if err != nil {
			t.Fatal(err)
		}
		var got []event.Type
		for i, e := range events {
			got = append(got, e.Type)
			if i > 0 && e.Sequence <= events[i-1].Sequence {
				t.Errorf("%s at %d follows sequence %d", e.Type, e.Sequence, events[i-1].Sequence)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the history of %s is %v, want %v", e.Type, got, want)
		}
	}

	id := event.NewOrderID()
	one := b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	two := b.MustPublish(t, confirmed(id), stream.First(event.PaymentConfirmed, id))
	three := b.MustPublish(t, refunded(id), stream.After(event.PaymentRefunded, id, two.Sequence))
	t.Run("Whole", func(t *testing.T) {
		for _, e := range []event.Event{one.Event, two.Event, three.Event} {
			history(t, e, types...)
		}
	})
	t.Run("OtherTypes", func(t *testing.T) {
		events, err := b.History(b.ctx, two.Event, event.PaymentDeclined)
		if err != nil || len(events) != 1 || events[0].Type != two.Type {
			t.Errorf("the history without other types is %v, %v, want %s", events, err, two.Type)
		}
	})
	t.Run("WithoutOrder", func(t *testing.T) {
		id := event.NewOrderID()
		alone := b.MustPublish(t, confirmed(id), stream.First(event.PaymentConfirmed, id))
		history(t, alone.Event, event.PaymentConfirmed)
	})
	t.Run("NotSentAgain", func(t *testing.T) {
		answers, err := b.conn.SubscribeSync("_INBOX.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		history(t, two.Event, types...)
		for range 2 { // the other two events
			m, err := answers.NextMsgWithContext(b.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m.Header.Get("Nats-Subject") == two.Subject {
				t.Errorf("the server has sent %s again", two.Type)
			}
		}
		if m, err := answers.NextMsgWithContext(b.ctx); err != nil || m.Header.Get("Status") != "204" {
			t.Errorf("the third answer is %v, %v, want the end", m, err)
		}
	})
	t.Run("Latest", func(t *testing.T) {
		if events, err := b.Latest(b.ctx, event.PaymentConfirmed, id); err != nil || len(events) != 1 || events[0].Sequence != two.Sequence {
			t.Errorf("Latest = %v, %v, want the event at %d", events, err, two.Sequence)
		}
		if events, err := b.Latest(b.ctx, event.PaymentDeclined, id); err != nil || len(events) != 0 {
			t.Errorf("Latest = %v, %v of an event that nobody published, want nothing", events, err)
		}
		if _, err := b.conn.RequestMsgWithContext(b.ctx, &nats.Msg{Subject: event.PaymentDeclined.Subject(id), Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		if events, err := b.Latest(b.ctx, event.PaymentDeclined, id); err != nil || len(events) != 0 {
			t.Errorf("Latest = %v, %v of a foreign message, want nothing", events, err)
		}
	})
}
