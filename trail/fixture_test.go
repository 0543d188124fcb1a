package trail_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
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

	"example.org/ordertrail/trail"
)

// key is the attribute that joins the spans of an order.
const key = "order.id"

// story makes spans as the services of a shop do, at the times that a test wants.
type story struct {
	id    string // the order's
	start time.Time
	spans []*tracetest.SpanStub
	ids   *rand.Rand
}

var epoch = time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC)

// newStory starts an order, a second after the order with the number before.
func newStory(number int) *story {
	start := epoch.Add(time.Duration(number) * time.Second)
	ids := rand.New(rand.NewPCG(uint64(number), 5))
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(start.UnixMilli())<<16|0x7000|uint64(ids.Uint32()&0xfff))
	binary.BigEndian.PutUint64(id[8:], ids.Uint64()>>2|1<<63)
	return &story{id: id.String(), start: start, ids: ids}
}

// span adds a span; from and to are milliseconds after the order's start.
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
		Attributes: []attribute.KeyValue{attribute.String(key, s.id)},
		Resource:   resource.NewSchemaless(attribute.String("service.name", service)),
	}
	s.spans = append(s.spans, stub)
	return stub
}

// remove loses a span.
func (s *story) remove(lost *tracetest.SpanStub) {
	s.spans = slices.DeleteFunc(s.spans, func(stub *tracetest.SpanStub) bool { return stub == lost })
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
func (s *story) publish(parent *tracetest.SpanStub, t string, from, to float64) *tracetest.SpanStub {
	stub := s.child(parent, "publish "+t, oteltrace.SpanKindProducer, from, to)
	stub.Attributes = append(stub.Attributes, s.message(t, "send")...)
	stub.Attributes = append(stub.Attributes, attribute.Int64("messaging.nats.message.stream_sequence", int64(s.ids.IntN(1e6))))
	return stub
}

// process adds the span that handles an event.
func (s *story) process(service string, published *tracetest.SpanStub, delivery int, from, to float64) *tracetest.SpanStub {
	t := strings.TrimPrefix(published.Name, "publish ")
	stub := s.span(service, "process "+t, oteltrace.SpanKindConsumer, from, to)
	stub.Attributes = append(stub.Attributes, s.message(t, "process")...)
	stub.Attributes = append(stub.Attributes,
		attribute.String("messaging.consumer.group.name", service),
		attribute.Int64("messaging.nats.message.stream_sequence", int64(s.ids.IntN(1e6))),
		attribute.Int64("messaging.nats.message.consumer_sequence", int64(s.ids.IntN(1e6))),
		attribute.Int("messaging.nats.message.delivery_count", delivery))
	s.link(stub, published, "triggered_by")
	return stub
}

// link adds a link to the span that published an event.
func (s *story) link(from, to *tracetest.SpanStub, relationship string) {
	t := strings.TrimPrefix(to.Name, "publish ")
	from.Links = append(from.Links, traceLink(to.SpanContext,
		attribute.String("link.trace_id", to.SpanContext.TraceID().String()),
		attribute.String("link.event_type", t),
		attribute.String("messaging.message.id", t+"."+s.id),
		attribute.String("link.relationship", relationship),
		attribute.String("messaging.destination.name", t+"."+s.id),
		attribute.String(key, s.id)))
}

func traceLink(to oteltrace.SpanContext, attrs ...attribute.KeyValue) sdktrace.Link {
	return sdktrace.Link{SpanContext: to, Attributes: attrs}
}

func (s *story) message(t string, operation string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", operation),
		attribute.String("messaging.destination.name", t+"."+s.id),
		attribute.String("messaging.destination.template", t+".{order_id}"),
		attribute.String("messaging.message.id", t+"."+s.id),
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

// happy is an order that is shipped. It has the spans of a real one, and returns those
// that tests need by name.
func happy(number int) (*story, map[string]*tracetest.SpanStub) {
	s := newStory(number)
	by := map[string]*tracetest.SpanStub{}
	by["post"] = s.span("orders", "POST /orders", oteltrace.SpanKindServer, 0, 4)
	by["deadline"] = s.publish(by["post"], "deadlines.at", 1, 1.5)
	by["created"] = s.publish(by["post"], "orders.created", 2, 4)
	by["pay"] = s.process("payments", by["created"], 1, 5, 21)
	by["charge"] = s.child(by["pay"], "charge card", oteltrace.SpanKindClient, 6, 16)
	by["confirmed"] = s.publish(by["pay"], "payments.confirmed", 17, 20)
	s.settle(by["pay"], "ack", 20, 21)
	by["reserve"] = s.process("inventory", by["created"], 1, 5, 8)
	by["reserved"] = s.publish(by["reserve"], "inventory.reserved", 6, 8)
	other := s.process("fulfillment", by["reserved"], 1, 9, 10)
	s.settle(other, "ack", 9.5, 10)
	by["fulfillment"] = s.process("fulfillment", by["confirmed"], 1, 22, 32)
	by["fulfill"] = s.child(by["fulfillment"], "fulfill order", oteltrace.SpanKindInternal, 23, 30)
	s.link(by["fulfill"], by["confirmed"], "payment_confirmation")
	s.link(by["fulfill"], by["reserved"], "inventory_reservation")
	by["book"] = s.child(by["fulfill"], "book parcel", oteltrace.SpanKindClient, 24, 26)
	by["shipped"] = s.publish(by["fulfill"], "fulfillment.shipped", 27, 30)
	s.settle(by["fulfillment"], "ack", 31, 32)
	for i, published := range []*tracetest.SpanStub{by["created"], by["shipped"]} {
		from := []float64{5, 31}[i]
		p := s.process("notify", published, 1, from, from+6)
		s.child(p, "send mail", oteltrace.SpanKindClient, from+1, from+2)
		by[fmt.Sprint("mail", i)] = s.publish(p, []string{"notify.received", "notify.shipped"}[i], from+3, from+5)
		s.settle(p, "ack", from+5, from+6)
	}
	by["batch"] = s.batch(140, by["created"], by["confirmed"], by["reserved"], by["shipped"], by["mail0"], by["mail1"])
	by["due"] = s.process("orders", by["deadline"], 1, 3000, 3001)
	by["due"].Name = "process deadlines.due" // its message was published as a schedule
	return s, by
}

func (s *story) settle(process *tracetest.SpanStub, how string, from, to float64) {
	stub := s.child(process, how+" "+strings.TrimPrefix(process.Name, "process "), oteltrace.SpanKindClient, from, to)
	stub.Attributes = append(stub.Attributes, process.Attributes[1:]...)
	stub.Attributes = append(stub.Attributes, attribute.String("messaging.operation.type", "settle"))
}

// batch adds a span that counts several events, so far only of this order.
func (s *story) batch(from float64, published ...*tracetest.SpanStub) *tracetest.SpanStub {
	stub := s.span("analytics", "process ORDERS", oteltrace.SpanKindConsumer, from, from+1)
	stub.Attributes = []attribute.KeyValue{attribute.Int("messaging.batch.message_count", len(published))}
	for _, p := range published {
		s.link(stub, p, "triggered_by")
	}
	return stub
}

// stored returns a store with the spans of the stories, added in random order.
func stored(stories ...*story) *trail.Store {
	store := trail.NewStore(0)
	for _, s := range stories {
		for _, i := range s.ids.Perm(len(s.spans)) {
			add(store, s.spans[i])
		}
	}
	return store
}

func add(store *trail.Store, spans ...*tracetest.SpanStub) {
	for _, stub := range spans {
		store.OnEnd(stub.Snapshot())
	}
}

// find returns the spans of the last story, from a store with all of them.
func find(t testing.TB, stories ...*story) trail.Spans {
	t.Helper()
	found, err := stored(stories...).Find(context.Background(), key, stories[len(stories)-1].id, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func tracesOf(found trail.Spans) map[string]bool {
	traces := map[string]bool{}
	for _, s := range found.Spans {
		traces[s.TraceID] = true
	}
	return traces
}

// stitched is the story of s, of spans that come from a store.
func stitched(t testing.TB, s *story) *trail.Story {
	t.Helper()
	return trail.Stitch(find(t, s), s.options())
}

func (s *story) options() trail.Options {
	return trail.Options{Key: key, Value: s.id, Until: func(s *trail.Span) bool {
		to := s.Attributes.Text("messaging.destination.template")
		return s.Kind == "producer" && (to == "fulfillment.shipped.{order_id}" || to == "fulfillment.cancelled.{order_id}")
	}}
}
