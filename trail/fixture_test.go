package trail_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/trail"
)

// story makes spans as the services do, with the times that a test wants.
type story struct {
	id    string // the order's
	start time.Time
	spans []*tracetest.SpanStub
	ids   *rand.Rand
}

var epoch = time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC)

// newStory begins an order, the number-th of its test: a second after the one before.
func newStory(number int) *story {
	start := epoch.Add(time.Duration(number) * time.Second)
	ids := rand.New(rand.NewPCG(uint64(number), 5))
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(start.UnixMilli())<<16|0x7000|uint64(ids.Uint32()&0xfff))
	binary.BigEndian.PutUint64(id[8:], ids.Uint64()>>2|1<<63)
	return &story{id: id.String(), start: start, ids: ids}
}

// span adds a span that runs from and to some milliseconds after the order's start.
func (s *story) span(service, name string, kind oteltrace.SpanKind, from, to float64) *tracetest.SpanStub {
	var traceID oteltrace.TraceID
	var spanID oteltrace.SpanID
	binary.BigEndian.PutUint64(traceID[:], s.ids.Uint64())
	binary.BigEndian.PutUint64(traceID[8:], s.ids.Uint64())
	binary.BigEndian.PutUint64(spanID[:], s.ids.Uint64())
	stub := &tracetest.SpanStub{
		Name: name, SpanKind: kind,
		SpanContext: oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: oteltrace.FlagsSampled}),
		StartTime:   s.at(from), EndTime: s.at(to),
		Attributes: []attribute.KeyValue{event.OrderIDKey.String(s.id)},
		Resource:   resource.NewSchemaless(attribute.String("service.name", service)),
	}
	s.spans = append(s.spans, stub)
	return stub
}

func (s *story) at(ms float64) time.Time {
	return s.start.Add(time.Duration(ms * float64(time.Millisecond)))
}

// child adds a span below another.
func (s *story) child(parent *tracetest.SpanStub, name string, kind oteltrace.SpanKind, from, to float64) *tracetest.SpanStub {
	stub := s.span(serviceOf(parent), name, kind, from, to)
	stub.SpanContext = stub.SpanContext.WithTraceID(parent.SpanContext.TraceID())
	stub.Parent = parent.SpanContext
	return stub
}

// publish adds the span that publishes an event.
func (s *story) publish(parent *tracetest.SpanStub, t event.Type, from, to float64) *tracetest.SpanStub {
	stub := s.child(parent, "publish "+string(t), oteltrace.SpanKindProducer, from, to)
	stub.Attributes = append(stub.Attributes, s.message(t, "send")...)
	stub.Attributes = append(stub.Attributes, attribute.Int64("messaging.nats.message.stream_sequence", int64(s.ids.IntN(1e6))))
	return stub
}

// process adds the span that handles an event.
func (s *story) process(service string, published *tracetest.SpanStub, delivery int, from, to float64) *tracetest.SpanStub {
	t := event.Type(strings.TrimPrefix(published.Name, "publish "))
	stub := s.span(service, "process "+string(t), oteltrace.SpanKindConsumer, from, to)
	stub.Attributes = append(stub.Attributes, s.message(t, "process")...)
	stub.Attributes = append(stub.Attributes,
		attribute.String("messaging.consumer.group.name", service),
		attribute.Int64("messaging.nats.message.stream_sequence", int64(s.ids.IntN(1e6))),
		attribute.Int64("messaging.nats.message.consumer_sequence", int64(s.ids.IntN(1e6))),
		attribute.Int("messaging.nats.message.delivery_count", delivery))
	s.link(stub, published, "triggered_by")
	return stub
}

// link has a span link the one that published something.
func (s *story) link(from, to *tracetest.SpanStub, relationship string) {
	t := event.Type(strings.TrimPrefix(to.Name, "publish "))
	from.Links = append(from.Links, traceLink(to.SpanContext,
		attribute.String("link.trace_id", to.SpanContext.TraceID().String()),
		attribute.String("link.event_type", string(t)),
		attribute.String("messaging.message.id", t.Subject(s.id)),
		attribute.String("link.relationship", relationship),
		attribute.String("messaging.destination.name", t.Subject(s.id)),
		event.OrderIDKey.String(s.id)))
}

func traceLink(to oteltrace.SpanContext, attrs ...attribute.KeyValue) sdktrace.Link {
	return sdktrace.Link{SpanContext: to, Attributes: attrs}
}

func (s *story) message(t event.Type, operation string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", operation),
		attribute.String("messaging.destination.name", t.Subject(s.id)),
		attribute.String("messaging.destination.template", string(t)+".{order_id}"),
		attribute.String("messaging.message.id", t.Subject(s.id)),
		attribute.String("messaging.nats.stream.name", "ORDERS"),
	}
}

func fail(stub *tracetest.SpanStub, class string) *tracetest.SpanStub {
	stub.Status.Code, stub.Status.Description = codes.Error, class
	stub.Attributes = append(stub.Attributes, attribute.String("error.type", class))
	return stub
}

func serviceOf(stub *tracetest.SpanStub) string {
	for _, a := range stub.Resource.Attributes() {
		if a.Key == "service.name" {
			return a.Value.AsString()
		}
	}
	return ""
}

func refOf(stub *tracetest.SpanStub) trail.Ref {
	return trail.Ref{TraceID: stub.SpanContext.TraceID().String(), SpanID: stub.SpanContext.SpanID().String()}
}

// happy tells the story of an order that is shipped, with the spans of it that tests
// ask for by name. Its spans are those of the real one.
func happy(number int) (*story, map[string]*tracetest.SpanStub) {
	s := newStory(number)
	by := map[string]*tracetest.SpanStub{}
	by["post"] = s.span("orders", "POST /orders", oteltrace.SpanKindServer, 0, 4)
	by["deadline"] = s.publish(by["post"], event.DeadlineAt, 1, 1.5)
	by["created"] = s.publish(by["post"], event.OrderCreated, 2, 4)
	by["pay"] = s.process("payments", by["created"], 1, 5, 21)
	by["charge"] = s.child(by["pay"], "charge card", oteltrace.SpanKindClient, 6, 16)
	by["confirmed"] = s.publish(by["pay"], event.PaymentConfirmed, 17, 20)
	s.settle(by["pay"], "ack", 20, 21)
	by["reserve"] = s.process("inventory", by["created"], 1, 5, 8)
	by["reserved"] = s.publish(by["reserve"], event.InventoryReserved, 6, 8)
	other := s.process("fulfillment", by["reserved"], 1, 9, 10)
	s.settle(other, "ack", 9.5, 10)
	by["fulfillment"] = s.process("fulfillment", by["confirmed"], 1, 22, 32)
	by["fulfill"] = s.child(by["fulfillment"], "fulfill order", oteltrace.SpanKindInternal, 23, 30)
	s.link(by["fulfill"], by["confirmed"], "payment_confirmation")
	s.link(by["fulfill"], by["reserved"], "inventory_reservation")
	by["book"] = s.child(by["fulfill"], "book parcel", oteltrace.SpanKindClient, 24, 26)
	by["shipped"] = s.publish(by["fulfill"], event.FulfillmentShipped, 27, 30)
	s.settle(by["fulfillment"], "ack", 31, 32)
	for i, published := range []*tracetest.SpanStub{by["created"], by["shipped"]} {
		from := []float64{5, 31}[i]
		p := s.process("notify", published, 1, from, from+6)
		s.child(p, "send mail", oteltrace.SpanKindClient, from+1, from+2)
		by[fmt.Sprint("mail", i)] = s.publish(p, []event.Type{event.NotifyReceived, event.NotifyShipped}[i], from+3, from+5)
		s.settle(p, "ack", from+5, from+6)
	}
	by["batch"] = s.batch(140, by["created"], by["confirmed"], by["reserved"], by["shipped"], by["mail0"], by["mail1"])
	by["due"] = s.process("orders", by["deadline"], 1, 3000, 3001)
	by["due"].Name = "process deadlines.due" // what is due was published as a schedule
	return s, by
}

func (s *story) settle(process *tracetest.SpanStub, how string, from, to float64) {
	stub := s.child(process, how+" "+strings.TrimPrefix(process.Name, "process "), oteltrace.SpanKindClient, from, to)
	stub.Attributes = append(stub.Attributes, process.Attributes[1:]...)
	stub.Attributes = append(stub.Attributes, attribute.String("messaging.operation.type", "settle"))
}

// batch adds the span that counts events, of this order so far.
func (s *story) batch(from float64, published ...*tracetest.SpanStub) *tracetest.SpanStub {
	stub := s.span("analytics", "process ORDERS", oteltrace.SpanKindConsumer, from, from+1)
	stub.Attributes = []attribute.KeyValue{attribute.Int("messaging.batch.message_count", len(published))}
	for _, p := range published {
		s.link(stub, p, "triggered_by")
	}
	return stub
}

// order is what the stream says of the story, long after.
func (s *story) order(events ...*tracetest.SpanStub) trail.Order {
	o := trail.Order{ID: s.id, State: "shipped", Now: s.start.Add(time.Hour), Deadline: s.start.Add(3 * time.Second)}
	for i, p := range events {
		o.Events = append(o.Events, trail.OrderEvent{
			Type: event.Type(strings.TrimPrefix(p.Name, "publish ")), Sequence: uint64(i + 1), Time: p.EndTime,
			TraceID: p.SpanContext.TraceID().String(), SpanID: p.SpanContext.SpanID().String(), Sampled: true,
		})
	}
	return o
}

// stored puts the spans of stories into a store, in any order.
func stored(stories ...*story) *trail.Store {
	store := trail.NewStore(trail.StoreOptions{})
	for _, s := range stories {
		for _, i := range s.ids.Perm(len(s.spans)) {
			store.OnEnd(s.spans[i].Snapshot())
		}
	}
	return store
}

// stitched is the trail of a story, of spans that come from a store.
func stitched(t testing.TB, s *story, o trail.Order) *trail.Trail {
	t.Helper()
	found, err := stored(s).Order(context.Background(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	return trail.Stitch(o, found)
}
