package orders

import (
	"context"
	"errors"
	"time"

	"ordertrail/internal/event"
	"ordertrail/internal/stream"
)

// Consumes lists what orders acts on, from stream DEADLINES.
var Consumes = []string{event.DeadlineDue.Every()}

// A deadline that finds no order is set again, for the order may still be on its
// way into the stream, or to the replica that was asked.
const (
	unknownTries = 3
	unknownWait  = 5 * time.Second
)

// overdue asks for the end of an order that is not concluded by its deadline.
// From there on it is cancelled like any other.
func (o *orders) overdue(ctx context.Context, e event.Event) error {
	deadline, err := event.Decode[event.Deadline](e)
	if err != nil {
		return err
	}
	events, err := o.Stream.Order(ctx, e.Key, 0)
	if err != nil {
		return err
	}
	now := fold(events)
	created, ok := event.Find(events, event.OrderCreated)
	switch {
	case (!ok || now.ID == "") && deadline.Try < unknownTries:
		deadline.Try++
		deadline.Due = time.Now().Add(unknownWait)
		return o.Stream.Schedule(ctx, deadline)
	case !ok || now.ID == "":
		o.Log.InfoContext(ctx, "a deadline without an order", "order.id", e.Key)
		return nil // its customer was told that it was not taken
	case now.State != StateCreated:
		return nil // concluded, or about to be: a cancellation asked for decides
	}
	o.linkCreation(ctx, created)
	_, err = o.askForEnd(ctx, created, event.ReasonDeadline)
	if errors.Is(err, stream.ErrConflict) {
		return stream.Permanent(err) // a foreign message is in its place
	}
	return err
}
