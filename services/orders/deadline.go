package orders

import (
	"context"
	"errors"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// Consumes lists what orders acts on, from stream DEADLINES.
var Consumes = []string{event.DeadlineDue.Every()}

// unknownWaits are after how long a deadline that finds no order is set again. The
// order may be on its way to the replica that was asked, or, from a replica of this
// service that has lost its connection, into the stream; that can take a while.
var unknownWaits = []time.Duration{5 * time.Second, 30 * time.Second, 3 * time.Minute, 20 * time.Minute}

// overdue asks for the end of an order that is not concluded by its deadline.
// From there on it is cancelled like any other.
func (s *Shop) overdue(ctx context.Context, e event.Event) error {
	deadline, err := event.Decode[event.Deadline](e)
	if err != nil {
		return err
	}
	events, err := s.rt.Stream.Order(ctx, e.Key, 0)
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
		s.rt.Log.InfoContext(ctx, "a deadline without an order", "order.id", e.Key)
		return nil // its customer was told that it was not taken
	case now.State != StateCreated:
		return nil // concluded, or about to be: a cancellation asked for decides
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

// early tells whether a deadline comes due before its time by the server's clock,
// and when that is. The clock of the host that took the order, by which it was set,
// may be far behind; nobody is to lose an order over that.
func (s *Shop) early(e event.Event, deadline event.Deadline, created event.Event) (due time.Time, early bool) {
	allowed := s.deadline
	if deadline.Try <= 1 { // it was set when the order was, by the same clock
		order, err := event.Decode[event.Created](created)
		if err != nil {
			return time.Time{}, false
		}
		allowed = deadline.Due.Sub(order.CreatedAt)
	}
	due = created.Time.Add(allowed)
	// The schedule is published before the order, so it comes a little early always.
	return due, e.Time.Before(due.Add(-allowed / 10))
}
