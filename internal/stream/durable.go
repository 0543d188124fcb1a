package stream

import (
	"context"
	"fmt"

	"example.org/ordertrail/internal/event"
)

// Durable is a durable consumer, which all replicas of a service share. It lists
// the types of events that the service consumes, each with its handler:
// [Provision] derives the filters from this list, [Client.Consume] the dispatch.
type Durable struct {
	Name   string
	Stream string
	On     []Subscription

	// BeforeDeadLetter, if set, is called with an event that is about to become a
	// dead letter, so that nothing stays half done. If it fails, and not permanently,
	// the event is delivered again and BeforeDeadLetter called again, until it succeeds.
	BeforeDeadLetter Handler
}

// Handler handles one event. It may be called again for the same event, so each of
// its effects must be harmless the second time. If it returns an error, the event is
// delivered again; if the error is marked by [Permanent], or this was the last
// delivery, the event becomes a dead letter. [ErrUnavailable] is not counted as a
// failure of the handler: it is called again until NATS is back.
type Handler func(ctx context.Context, e event.Event) error

// Subscription connects one type of event with its handler.
type Subscription struct {
	event  event.Type
	handle Handler
}

// On subscribes h to a type of event whose payload is a P. An event with another
// payload does not reach h: it becomes a dead letter.
func On[P event.Payload](t event.Type, h func(context.Context, event.Event, P) error) Subscription {
	return Subscription{t, func(ctx context.Context, e event.Event) error {
		payload, err := event.Decode[P](e)
		if err != nil {
			return err
		}
		return h(ctx, e, payload)
	}}
}

// OnEach subscribes h to several types of events, without decoding their payloads.
func OnEach(h Handler, types ...event.Type) (all []Subscription) {
	for _, t := range types {
		all = append(all, Subscription{t, h})
	}
	return all
}

// Filters returns the subjects of the events that the durable consumes.
func (d Durable) Filters() (filters []string) {
	for _, s := range d.On {
		filters = append(filters, s.event.Every())
	}
	return filters
}

// handle passes e to the handler of its type.
func (d Durable) handle(ctx context.Context, e event.Event) error {
	for _, s := range d.On {
		if s.event == e.Type {
			return s.handle(ctx, e)
		}
	}
	return Permanent(fmt.Errorf("%s has no handler for %s", d.Name, e.Type))
}
