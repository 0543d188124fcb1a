// Package orders is the shop's door.
//
//	POST /orders         publishes orders.created, from which all else follows
//	DELETE /orders/{id}  publishes orders.cancelled; fulfillment decides
//	deadlines.due        likewise, for an order that is not concluded in time
//	GET /orders/{id}     reads the order's events from the stream, and adds them up
//	GET /orders          the newest orders, folded from the stream as they come
//	GET …/trail          an order's trail, stitched from all its traces
//	GET /catalog         what there is to order
//	GET …/events         the same, live: what is new about an order, or about all
//	GET /                the shop's page; /orders/{id} is one too, for a browser
package orders

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/trail"
)

// Name is the service's.
const Name = "orders"

// DefaultHTTPAddr is where the API listens if HTTP_ADDR says nothing.
const DefaultHTTPAddr = "127.0.0.1:8080"

type orders struct {
	*service.Runtime
	recent     *recent
	deadline   time.Duration // from an order's creation to its conclusion
	bounds     bounds
	backlog    *backlog
	turnedAway atomic.Int64   // requests
	traces     trail.Source   // nil if there are none to look at
	mails      *outbox.Outbox // of this process; nil if there is none
	maps       *sharedMap
	watchers   *watchers
	api        http.Handler
	site       web.Site
}

// Service is orders with the shop's pages. It reads traces from the source, by
// default from Jaeger at JAEGER_URL, and shows the mails of this process, if there
// are any.
func Service(traces trail.Source, mails *outbox.Outbox) service.Definition {
	return service.Definition{
		Name:     Name,
		Durable:  stream.Durable{Name: Name, Stream: stream.DeadlinesStream, Filters: Consumes},
		HTTPAddr: DefaultHTTPAddr,
		Wire:     func(rt *service.Runtime) (service.Part, error) { return wire(rt, defaultBounds, traces, mails), nil },
	}
}

func wire(rt *service.Runtime, b bounds, traces trail.Source, mails *outbox.Outbox) service.Part {
	if traces == nil && rt.Settings.JaegerURL != nil {
		traces = trail.NewJaeger(rt.Settings.JaegerURL)
	}
	o := &orders{
		Runtime: rt, recent: newRecent(), traces: traces, mails: mails, maps: &sharedMap{now: b.now}, watchers: newWatchers(), site: web.SiteOf(rt.Settings),
		deadline: cmp.Or(rt.Settings.OrderDeadline, service.DefaultOrderDeadline), bounds: b,
	}
	o.backlog = newBacklog(b.open, func() time.Time { return b.now().Add(-o.deadline - b.forgetAfter) })
	return service.Part{Run: o.run, HTTP: o.routes()}
}

// run keeps the list of recent orders and the backlog, and the deadlines.
func (o *orders) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return o.follow(ctx) })
	group.Go(func() error { return o.Stream.Consume(ctx, Name, o.overdue, stream.From(stream.DeadlinesStream)) })
	return group.Wait()
}

var (
	errNotFound = errors.New("there is no such order")
	errOver     = errors.New("the order is concluded")
	errKeyUsed  = errors.New("the Idempotency-Key was used for another request")
)

// place publishes orders.created, the event that everything else follows from. A
// key that was used before leads to the order that was placed with it.
func (o *orders) place(ctx context.Context, r request, key string) (Order, error) {
	created := r.order(event.NewOrderID(), time.Now())
	guard := stream.First(event.OrderCreated, created.OrderID)
	if key != "" {
		guard.MsgID = "key/" + hash([]byte(key))
	}
	ctx = ofOrder(ctx, created.OrderID)
	// Before the order: who crashes in between leaves a deadline without an order,
	// which is harmless, and never an order without a deadline.
	if err := o.Stream.Schedule(ctx, event.Deadline{
		OrderKey: created.OrderKey, Due: created.CreatedAt.Add(o.deadline), Try: 1,
	}); err != nil {
		return Order{}, err
	}
	stored, err := o.Stream.PublishOnce(ctx, event.Draft{Type: event.OrderCreated, Payload: created}, guard)
	if err != nil {
		return Order{}, err
	}
	if !stored.Duplicate {
		return fold([]event.Event{stored.Event}), nil
	}
	first, err := o.first(ctx, stored.Sequence)
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
	return o.get(ctx, before.OrderID, stored.Sequence)
}

// first reads the message that a duplicate answer points at. The replica that
// answers may not have it yet.
func (o *orders) first(ctx context.Context, sequence uint64) (event.Event, error) {
	for {
		e, err := o.Stream.At(ctx, sequence)
		if err == nil || ctx.Err() != nil {
			return e, err
		}
		if wait(ctx, readAgain) != nil {
			return e, err
		}
	}
}

// cancel publishes orders.cancelled, which asks for the order's end; fulfillment
// decides whether it still can be.
func (o *orders) cancel(ctx context.Context, id string) (Order, error) {
	ctx = ofOrder(ctx, id)
	events, err := o.read(ctx, id, 0)
	if err != nil {
		return Order{}, err
	}
	now := fold(events)
	created, ok := event.Find(events, event.OrderCreated)
	if !ok || now.ID == "" {
		return Order{}, errNotFound
	}
	o.linkCreation(ctx, created)
	if now.concluded() {
		return now, errOver
	}
	sequence, err := o.askForEnd(ctx, created, event.ReasonCustomer)
	if err != nil {
		return Order{}, err
	}
	return o.get(ctx, id, sequence)
}

// askForEnd publishes orders.cancelled, and returns its sequence. Whoever asked
// first is the one who did.
func (o *orders) askForEnd(ctx context.Context, created event.Event, reason string) (sequence uint64, err error) {
	stored, err := o.Stream.PublishOnce(ctx, event.Draft{
		Type:    event.OrderCancelled,
		Payload: event.CancelRequested{OrderKey: event.OrderKey{OrderID: created.Key}, Reason: reason},
	}, stream.After(event.OrderCancelled, created.Key, created.Sequence))
	return stored.Sequence, err
}

// linkCreation links the span that published the order, whose end is asked for.
func (o *orders) linkCreation(ctx context.Context, created event.Event) {
	trace.SpanFromContext(ctx).AddLink(o.Tracing.Link(created.Header,
		tracing.RelationshipKey.String("cancels"), event.OrderIDKey.String(created.Key)))
}

// get returns the order as its events tell it, up to sequence at least.
func (o *orders) get(ctx context.Context, id string, sequence uint64) (Order, error) {
	events, err := o.read(ctx, id, sequence)
	if err != nil {
		return Order{}, err
	}
	order := fold(events)
	if order.ID == "" {
		return Order{}, errNotFound
	}
	return order, nil
}

// A replica may lag behind the one that took the order: one that is younger than
// young and not found is looked for again, for as long as patience.
const (
	young     = 5 * time.Second
	patience  = time.Second
	readAgain = 20 * time.Millisecond
)

func (o *orders) read(ctx context.Context, id string, sequence uint64) ([]event.Event, error) {
	for until := time.Now().Add(patience); ; {
		events, err := o.Stream.Order(ctx, id, sequence)
		if err != nil || len(events) > 0 || age(id) > young || time.Now().After(until) {
			return events, err
		}
		if err := wait(ctx, readAgain); err != nil {
			return nil, fmt.Errorf("read order %s: %w", id, err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ofOrder names the order on the request's span and in the baggage of everything
// that follows from it.
func ofOrder(ctx context.Context, id string) context.Context {
	trace.SpanFromContext(ctx).SetAttributes(event.OrderIDKey.String(id))
	member, err := baggage.NewMember(string(event.OrderIDKey), id)
	if err != nil {
		return ctx
	}
	bag, err := baggage.New(member)
	if err != nil {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, bag)
}

// products is the catalogue as the API shows it.
func (o *orders) products(w http.ResponseWriter, _ *http.Request) {
	o.answer(w, http.StatusOK, map[string]any{"products": catalog.Products()})
}
