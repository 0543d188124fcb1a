package analytics_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// Many events are counted in few batches, by the service and by a replay. Each batch
// is one root span with a link to the producer of each event.
func TestSpans(t *testing.T) {
	t.Parallel()
	const stored = 1100
	sys := start(t, func(cfg *systemtest.Config) {
		cfg.Wire = map[string]service.Wire{
			"payments": systemtest.Idle, "inventory": systemtest.Idle, "fulfillment": systemtest.Idle, "notify": systemtest.Idle,
		}
	})
	sys.MustRestart(t, func() {
		for range stored {
			id := event.NewOrderID()
			if _, err := sys.operator.Stream.PublishOnce(context.Background(), event.Draft{Type: event.OrderCreated, Payload: event.Created{
				OrderKey: event.OrderKey{OrderID: id}, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}},
			}}, stream.First(event.OrderCreated, id)); err != nil {
				t.Fatal(err)
			}
		}
	})
	sys.MustAwait(t)
	systemtest.Until(t, "the service knows that its batches are stored", func() bool { return countLinks(sys) == stored })
	if batches := checkLinks(t, sys, false); batches > stored/129 {
		t.Errorf("%d batches have too few links to show that none is dropped", batches)
	}
	if result := sys.MustReplay(t); result.Events != stored || len(result.Differences) > 0 {
		t.Errorf("%v, want %d events and no difference", result, stored)
	}
	if batches := checkLinks(t, sys, true); batches < 3 {
		t.Errorf("%d batches, want 3 or more", batches)
	}

	// A replay that is stopped while it reads changes nothing.
	before := sys.MustStored(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	operator := MustOperate(t, sys.connect, telemetry.WithSpanProcessor(atStart{tracetest.NewSpanRecorder(), cancel}))
	if result, err := analytics.Replay(ctx, operator); !errors.Is(err, context.Canceled) || result.Events >= stored {
		t.Errorf("replay = %v, %v, want %v before the end", result, err, context.Canceled)
	}
	if got := sys.MustStored(t); got != before {
		t.Errorf("a replay that was stopped changed %s to %s", before, got)
	}
}

// atStart calls a function when a span starts.
type atStart struct {
	sdktrace.SpanProcessor
	do func()
}

func (a atStart) OnStart(context.Context, sdktrace.ReadWriteSpan) { a.do() }

// batches returns the spans of the batches of the service, or of all replays.
func batches(sys *system, replay bool) (spans tracetest.SpanStubs) {
	for _, s := range sys.Spans.GetSpans() {
		if attributeOf(s.Attributes, "messaging.batch.message_count").AsInt64() > 0 && attributeOf(s.Attributes, "analytics.replay").AsBool() == replay {
			spans = append(spans, s)
		}
	}
	return spans
}

// countLinks counts the links of the service's batches.
func countLinks(sys *system) (n int) {
	for _, s := range batches(sys, false) {
		n += len(s.Links)
	}
	return n
}

func attributeOf(all []attribute.KeyValue, key attribute.Key) attribute.Value {
	set := attribute.NewSet(all...)
	value, _ := set.Value(key)
	return value
}

// checkLinks checks that the batches link the producer of each event once, and no
// other span. It returns the number of batches.
func checkLinks(t *testing.T, sys *system, replay bool) (n int) {
	t.Helper()
	relationship := map[bool]string{false: "triggered_by", true: "replay_of"}[replay]
	links := map[string][]sdktrace.Link{} // by event
	spans := batches(sys, replay)
	for _, s := range spans {
		checkBatch(t, s)
		for _, l := range s.Links {
			id := attributeOf(l.Attributes, "messaging.message.id").AsString()
			links[id] = append(links[id], l)
		}
	}
	stored := systemtest.Read(t, sys.JetStream())
	for order, events := range stored.Orders {
		for _, e := range events {
			producer := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), tracing.HeaderCarrier(e.Header)))
			got := links[e.Subject]
			if len(got) != 1 || !got[0].SpanContext.Equal(producer) {
				t.Errorf("%s is linked as %v, want %v once", e.Subject, got, producer)
				continue
			}
			for key, want := range map[attribute.Key]string{"order.id": order, "link.relationship": relationship, "link.event_type": string(e.Type)} {
				if got := attributeOf(got[0].Attributes, key).AsString(); got != want {
					t.Errorf("%s of the link to %s is %q, want %q", key, e.Subject, got, want)
				}
			}
		}
	}
	if got, want := len(links), stored.Events(); got != want {
		t.Errorf("%d events are linked, want %d", got, want)
	}
	return len(spans)
}

func checkBatch(t *testing.T, s tracetest.SpanStub) {
	t.Helper()
	if s.SpanKind != trace.SpanKindConsumer || s.Parent.IsValid() || s.DroppedLinks > 0 {
		t.Errorf("a batch is a span of kind %v with the parent %v, %d links were dropped", s.SpanKind, s.Parent, s.DroppedLinks)
	}
	for _, key := range []attribute.Key{"messaging.batch.message_count", "batch.link_count"} {
		if got := attributeOf(s.Attributes, key).AsInt64(); got != int64(len(s.Links)) {
			t.Errorf("%s = %d, want %d links", key, got, len(s.Links))
		}
	}
	if got := attributeOf(s.Attributes, "order.id"); got.Type() != attribute.EMPTY {
		t.Errorf("a batch belongs to order %s", got.AsString())
	}
}
