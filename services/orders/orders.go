// Package orders takes orders.
//
//	POST /orders             publish orders.created, which starts everything else
//	DELETE /orders/{id}      publish orders.cancelled; fulfillment decides
//	deadlines.due            the same, for an order that is not concluded in time
//	GET /orders/{id}         read the order's events from the stream and add them up
//	GET /orders/{id}/events  the order's events, live
//	GET /orders              list the recent orders, folded from the stream
//	GET /catalog             list the products
//
// Package storefront adds the shop's pages. It calls the methods of [Shop].
package orders

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/feed"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
)

// Name is the service's name.
const Name = "orders"

// DefaultHTTPAddr is the address of the API if HTTP_ADDR is not set.
const DefaultHTTPAddr = "127.0.0.1:8080"

// Shop takes orders. Errors of its exported methods are [respond.Error]s.
type Shop struct {
	News feed.Hub // notifies of each event of an order, by the order's id

	rt         *service.Runtime
	deadline   time.Duration // from an order's creation to its conclusion
	bounds     bounds
	fold       *fold
	underWay   chan struct{} // holds a value for each request that changes something
	lookAgain  chan struct{} // holds a value for each request that reads a young order again
	turnedAway atomic.Int64  // requests
}

// New returns the shop of a replica. Its Run must run.
func New(rt *service.Runtime) *Shop { return newShop(rt, defaultBounds) }

func newShop(rt *service.Runtime, b bounds) *Shop {
	s := &Shop{
		rt: rt, bounds: b, underWay: make(chan struct{}, b.underWay), lookAgain: make(chan struct{}, b.lookAgain),
		deadline: cmp.Or(rt.Settings.OrderDeadline, service.DefaultOrderDeadline),
	}
	s.fold = newFold(func() time.Time { return b.now().Add(-s.deadline - b.forgetAfter) })
	return s
}

// NotReady returns an error for the client while the shop cannot do its work, see
// [service.Runtime.NotReady].
func (s *Shop) NotReady(ctx context.Context) error { return s.rt.NotReady(ctx) }

// Run folds the stream and handles deadlines until ctx ends. Feeds end while the shop is
// not ready.
func (s *Shop) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx) })
	group.Go(func() error { return s.rt.Stream.Consume(ctx, s.durable()) })
	group.Go(func() error { return s.rt.FollowReady(ctx, s.News.Suspend) })
	return group.Wait()
}

// Deadline returns the time from an order's creation after which it is cancelled if
// it is not concluded.
func (s *Shop) Deadline() time.Duration { return s.deadline }

// Place places an order, as POST /orders does. A key (Idempotency-Key) that was used
// before leads to the order that was placed with it; an empty key is none.
func (s *Shop) Place(ctx context.Context, r Request, key string) (order Order, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer func() { err = s.explain(ctx, err) }()
	if key != "" && !validKey(key) {
		return Order{}, errBadKey
	}
	if err := r.check(); err != nil {
		return Order{}, err
	}
	return s.place(ctx, r, key)
}

// Cancel asks for an order's end, as DELETE /orders/{id} does. It publishes
// orders.cancelled; fulfillment decides whether it comes in time.
func (s *Shop) Cancel(ctx context.Context, id string) (order Order, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer func() { err = s.explain(ctx, err) }()
	if err := CheckID(id); err != nil {
		return Order{}, err
	}
	ctx = withOrderID(ctx, id)
	order, events, err := s.get(ctx, id, 0)
	if err != nil {
		return Order{}, err
	}
	created, _ := event.Find(events, event.OrderCreated)
	s.linkCreation(ctx, created)
	if order.Concluded() {
		return order, errConcluded
	}
	sequence, err := s.askForEnd(ctx, created, event.ReasonCustomer)
	if err != nil {
		return Order{}, err
	}
	order, _, err = s.get(ctx, id, sequence)
	return order, err
}

// Read returns an order and the events that it is made of, up to sequence at least;
// 0 stands for the events that are stored now.
func (s *Shop) Read(ctx context.Context, id string, sequence uint64) (Order, []event.Event, error) {
	if err := CheckID(id); err != nil {
		return Order{}, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	order, events, err := s.get(ctx, id, sequence)
	return order, events, s.explain(ctx, err)
}

var (
	// ErrNotFound means that no order has this id.
	ErrNotFound  = respond.Errorf(http.StatusNotFound, "there is no such order")
	errConcluded = respond.Errorf(http.StatusConflict, "the order is shipped or cancelled already: it can no longer be cancelled")
	errKeyUsed   = respond.Errorf(http.StatusUnprocessableEntity, "this Idempotency-Key was used within the last hour for a request with another body: use a new key for a new order")
)

// place publishes orders.created for a checked request. A key that was used before
// leads to the order that was placed with it.
func (s *Shop) place(ctx context.Context, r Request, key string) (Order, error) {
	if r.hash == "" {
		body, err := json.Marshal(r)
		if err != nil {
			return Order{}, err
		}
		r.hash = hash(body)
	}
	created := r.order(event.NewOrderID(), time.Now())
	guard := stream.First(event.OrderCreated, created.OrderID)
	if key != "" {
		guard.MsgID = "key/" + hash([]byte(key))
	}
	ctx = withOrderID(ctx, created.OrderID)
	// Before the order: a crash in between leaves a deadline without an order, which is
	// harmless, and never an order without a deadline.
	if err := s.rt.Stream.Schedule(ctx, event.Deadline{
		OrderKey: created.OrderKey, Due: created.CreatedAt.Add(s.deadline), Try: 1,
	}); err != nil {
		return Order{}, err
	}
	stored, err := s.rt.Stream.PublishOnce(ctx, event.Draft{Type: event.OrderCreated, Payload: created}, guard)
	if err != nil {
		return Order{}, err
	}
	if !stored.Duplicate {
		s.fold.placed(ctx, stored.Event)
		return Order{
			ID: created.OrderID, State: StateCreated, Total: created.Total, Items: created.Items,
			Events: []Event{publishedEvent(stored.Event)},
		}, nil
	}
	first, err := s.rt.Stream.EventAt(ctx, stored.Sequence)
	if err != nil {
		return Order{}, err
	}
	before, err := event.Decode[event.Created](first)
	if err != nil {
		return Order{}, err
	}
	if before.RequestHash != created.RequestHash {
		return Order{}, errKeyUsed
	}
	trace.SpanFromContext(ctx).SetAttributes(event.OrderIDKey.String(before.OrderID), attribute.Bool("order.repeated_request", true))
	order, _, err := s.get(ctx, before.OrderID, stored.Sequence)
	return order, err
}

// askForEnd publishes orders.cancelled and returns its sequence. If it was published
// before, its reason stays as it was.
func (s *Shop) askForEnd(ctx context.Context, created event.Event, reason string) (sequence uint64, err error) {
	stored, err := s.rt.Stream.PublishOnce(ctx, event.Draft{
		Type:    event.OrderCancelled,
		Payload: event.Refused{OrderKey: event.OrderKey{OrderID: created.Key}, Reason: reason},
	}, stream.After(event.OrderCancelled, created.Key, created.Sequence))
	return stored.Sequence, err
}

// linkCreation links the span that published the order, unless it belongs to the same
// request: a scenario's customer places an order and cancels it.
func (s *Shop) linkCreation(ctx context.Context, created event.Event) {
	span := trace.SpanFromContext(ctx)
	link := s.rt.Tracing.Link(created.Header, tracing.RelationshipKey.String("cancels"), event.OrderIDKey.String(created.Key))
	if link.SpanContext.TraceID() != span.SpanContext().TraceID() {
		span.AddLink(link)
	}
}

// A replica of the stream may lag behind the one that stored the order. An order
// that is younger than young and not found is read again until patience is over.
const (
	young     = 5 * time.Second
	patience  = time.Second
	readAgain = 20 * time.Millisecond
)

// get reads an order, up to sequence at least.
func (s *Shop) get(ctx context.Context, id string, sequence uint64) (Order, []event.Event, error) {
	events, err := s.rt.Stream.OrderEvents(ctx, id, sequence)
	if err == nil && len(events) == 0 && age(id).Abs() <= young {
		events, err = s.getAgain(ctx, id, sequence)
	}
	if err != nil {
		return Order{}, nil, err
	}
	order := orderOf(events)
	if order.ID == "" {
		return Order{}, nil, ErrNotFound
	}
	return order, events, nil
}

// getAgain reads an order until it is found, unless many requests do so: anybody can make
// up ids of young orders.
func (s *Shop) getAgain(ctx context.Context, id string, sequence uint64) ([]event.Event, error) {
	select {
	case s.lookAgain <- struct{}{}:
		defer func() { <-s.lookAgain }()
	default:
		return nil, ErrNotFound
	}
	return backoff.Retry(ctx, func() ([]event.Event, error) {
		events, err := s.rt.Stream.OrderEvents(ctx, id, sequence)
		if err != nil {
			return nil, backoff.Permanent(err)
		}
		if len(events) == 0 {
			return nil, ErrNotFound
		}
		return events, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(readAgain)), backoff.WithMaxElapsedTime(patience))
}

// withOrderID sets the order's id on the request's span, and in the baggage of the
// messages that the request publishes.
func withOrderID(ctx context.Context, id string) context.Context {
	trace.SpanFromContext(ctx).SetAttributes(event.OrderIDKey.String(id))
	bag, _ := baggage.Parse(string(event.OrderIDKey) + "=" + id) // an order id is valid there
	return baggage.ContextWithBaggage(ctx, bag)
}

// explain turns an error of a read or publish into one for the client, which names
// the outage and hides the details. It logs them.
func (s *Shop) explain(ctx context.Context, err error) error {
	var known *respond.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // the client has gone
	}
	s.rt.Log.ErrorContext(ctx, "request failed", "error", err)
	return &respond.Error{
		Status: http.StatusServiceUnavailable, Retry: true, Cause: err,
		Detail: s.rt.Stream.Outage(ctx, err) + ": orders cannot be stored or read right now; try again, with the same Idempotency-Key if you use one",
	}
}
