package stream_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

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
	t.Run("Stored", func(t *testing.T) {
		stored := func(typ event.Type, want bool) {
			t.Helper()
			for _, e := range []event.Event{{Delivery: 1}, {Delivery: 2}, {Retry: true}, {Redriven: true}} {
				e.Type, e.Key, e.Subject, e.Sequence = one.Type, one.Key, one.Subject, one.Sequence
				if got, err := b.Stored(b.ctx, e, typ); err != nil || got != want {
					t.Errorf("%s of delivery %d (again %t, redriven %t) is stored: %t, %v, want %t", typ, e.Delivery, e.Retry, e.Redriven, got, err, want)
				}
			}
		}
		stored(event.PaymentConfirmed, true)
		stored(event.PaymentDeclined, false)
		// A foreign message is not the event.
		if _, err := b.conn.RequestMsgWithContext(b.ctx, &nats.Msg{Subject: event.PaymentDeclined.Subject(id), Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		stored(event.PaymentDeclined, false)
	})
	t.Run("Ended", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
		defer cancel()
		late := two.Event
		late.Sequence = 1000 // no replica has it
		if _, err := b.History(ctx, late, types...); !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("a history that no replica has ends with %v, want ErrUnavailable", err)
		}
	})
}
