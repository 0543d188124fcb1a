package analytics_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// More than one batch: none has more than the service's, each event is linked by
// one of them.
func TestReplayInBatches(t *testing.T) {
	t.Parallel()
	const stored = 1100
	server := systemtest.Server(t)
	MustStore(t, server, stored)
	sys := startReplaying(t, func(cfg *systemtest.Config) {
		cfg.Connect = server.Connect
		cfg.Wire = map[string]service.Wire{
			"payments": systemtest.Idle, "inventory": systemtest.Idle, "fulfillment": systemtest.Idle, "notify": systemtest.Idle,
		}
	})
	sys.MustAwait(t)
	if result := sys.MustReplay(t); result.Events != stored || len(result.Differences) > 0 {
		t.Errorf("%v, want %d events and no difference", result, stored)
	}
	if batches := checkReplaySpans(t, sys); batches < 3 {
		t.Errorf("%d batches, want 3 or more", batches)
	}

	// One that is stopped in the middle changes nothing.
	before := sys.MustStored(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	operator := MustOperate(t, server.Connect, telemetry.WithSpanProcessor(atStart{tracetest.NewSpanRecorder(), cancel}))
	if result, err := analytics.Replay(ctx, operator); !errors.Is(err, context.Canceled) || result.Events >= stored {
		t.Errorf("replay = %v, %v, want %v before the end", result, err, context.Canceled)
	}
	if got := sys.MustStored(t); got != before {
		t.Errorf("a replay that was stopped changed %s to %s", before, got)
	}
}

// atStart does something when a span starts.
type atStart struct {
	sdktrace.SpanProcessor
	do func()
}

func (a atStart) OnStart(context.Context, sdktrace.ReadWriteSpan) { a.do() }

// checkReplaySpans checks that the replay's spans link every event's producer once
// and as replay_of, and that no other span says so. It returns their number.
func checkReplaySpans(t *testing.T, sys *replaying) (batches int) {
	t.Helper()
	links := map[string][]trace.SpanContext{} // by event
	for _, s := range sys.Spans.GetSpans() {
		replay, ok := attributesOf(s).Value("analytics.replay")
		if ok {
			batches++
			checkBatch(t, s)
			if !replay.AsBool() || s.Name != "process ORDERS" {
				t.Errorf("span %s has analytics.replay = %t", s.Name, replay.AsBool())
			}
		}
		for _, l := range s.Links {
			attributes := attribute.NewSet(l.Attributes...)
			if relationship, _ := attributes.Value("link.relationship"); (relationship.AsString() == "replay_of") != ok {
				t.Errorf("span %s (of a replay: %t) links as %s", s.Name, ok, relationship.AsString())
			}
			if !ok {
				continue
			}
			id, _ := attributes.Value("messaging.message.id")
			links[id.AsString()] = append(links[id.AsString()], l.SpanContext)
			if order, _ := attributes.Value("order.id"); !strings.HasSuffix(id.AsString(), "."+order.AsString()) {
				t.Errorf("the link to %s names order %q", id.AsString(), order.AsString())
			}
		}
	}
	events := 0
	for _, of := range systemtest.Read(t, sys.JetStream()).Orders {
		for _, e := range of {
			events++
			producer := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), tracing.HeaderCarrier(e.Header)))
			if got := links[e.Subject]; len(got) != 1 || !got[0].Equal(producer) {
				t.Errorf("%s is linked as %v, want %v once", e.Subject, got, producer)
			}
		}
	}
	if got := len(links); got != events {
		t.Errorf("%d events are linked, want %d", got, events)
	}
	return batches
}

func attributesOf(s tracetest.SpanStub) *attribute.Set {
	set := attribute.NewSet(s.Attributes...)
	return &set
}
