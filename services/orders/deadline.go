package orders

import (
	"context"
	"errors"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// Durable returns the durable consumer of orders, to provision it.
func Durable() stream.Durable { return new(Shop).durable() }

func (s *Shop) durable() stream.Durable {
	return stream.Durable{Name: Name, Stream: stream.DeadlinesStream, On: []stream.Subscription{
		stream.On(event.DeadlineDue, s.overdue), // orders.cancelled, unless the order is concluded
	}}
}

// unknownWaits are the times after which a deadline that finds no order is set again.
// The replica of the stream that answered may lag. Or a replica of this service has lost
// its connection and has not published the order yet, which can take a while.
var unknownWaits = []time.Duration{5 * time.Second, 30 * time.Second, 3 * time.Minute, 20 * time.Minute}

// overdue asks for the end of an order that is not concluded by its deadline, like a
// customer's cancellation.
func (s *Shop) overdue(ctx context.Context, e event.Event, deadline event.Deadline) error {
	events, err := s.rt.Stream.OrderEvents(ctx, e.Key, 0)
	if err != nil {
		return err
	}
	now := orderOf(events)
	created, ok := event.Find(events, event.OrderCreated)
	switch {
	case !ok || now.ID == "":
		if tried := max(deadline.Try, 1); tried <= len(unknownWaits) {
			deadline.Due = time.Now().Add(unknownWaits[tried-1])
			deadline.Try = tried + 1
			return s.rt.Stream.Schedule(ctx, deadline)
		}
		s.rt.Log.InfoContext(ctx, "deadline without an order", "order.id", e.Key)
		return nil // the response to its customer was an error
	case now.State != StateCreated:
		return nil // concluded, or a cancellation is decided already
	}
	if due, early := s.early(e, deadline, created); early {
		deadline.Due, deadline.Try = due, max(deadline.Try, 2) // 2: no longer as it was first set
		return s.rt.Stream.Schedule(ctx, deadline)
	}
	s.linkCreation(ctx, created)
	_, err = s.askForEnd(ctx, created, event.ReasonDeadline)
	if errors.Is(err, stream.ErrConflict) {
		return stream.Permanent(err) // a foreign message is in its place
	}
	return err
}

// early reports whether a deadline comes before its time by the server's clock, and
// returns that time. The deadline was set by the clock of the host that took the order,
// which may be far behind; no order must be cancelled because of that.
func (s *Shop) early(e event.Event, deadline event.Deadline, created event.Event) (due time.Time, early bool) {
	allowed := s.deadline
	if deadline.Try <= 1 { // set with the order, by the same clock
		order, err := event.Decode[event.Created](created)
		if err != nil {
			return time.Time{}, false
		}
		allowed = deadline.Due.Sub(order.CreatedAt)
	}
	due = created.Time.Add(allowed)
	// The schedule is published before the order, so it always comes a little early.
	return due, e.Time.Before(due.Add(-allowed / 10))
}
