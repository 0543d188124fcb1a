package test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/pkg/tracing"
)

var noProvider = noop.NewTracerProvider()

func TestProcess(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	_, err := tap.Publish(withOrder(context.Background(), "1"), js, &nats.Msg{Subject: "orders.created.1",
		Header: nats.Header{"ce-id": {"orders.created.1"}, "ce-type": {"orders.created"}}})
	if err != nil {
		t.Fatal(err)
	}
	produced := tap.only(t, "publish orders.created.{order_id}")

	msg := mustFetch(t, js, "payments", 1)[0]
	err = tap.Process(context.Background(), msg, func(ctx context.Context, msg jetstream.Msg) error {
		if got := baggage.FromContext(ctx).Member("order.id").Value(); got != "1" {
			t.Errorf("baggage order.id is %q", got)
		}
		if !trace.SpanFromContext(ctx).IsRecording() {
			t.Error("the handler's context has no span")
		}
		return msg.Ack()
	}, tracing.WithConsumerGroup("payments"), tracing.WithAttributes(attribute.Int("n", 1)), tracing.WithLinkAttributes(func(m jetstream.Msg) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("order.id", "1")}
	}))
	if err != nil {
		t.Fatal(err)
	}
	s := tap.only(t, "process orders.created.{order_id}")
	wantRoot(t, s)
	if s.SpanKind() != trace.SpanKindConsumer || s.Status().Code != codes.Unset {
		t.Errorf("kind %v, status %v", s.SpanKind(), s.Status().Code)
	}
	wantAttrs(t, s.Attributes(), map[string]string{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "orders.created.1", "messaging.destination.template": "orders.created.{order_id}",
		"messaging.consumer.group.name": "payments", "messaging.message.id": "orders.created.1",
		"messaging.nats.stream.name": "ORDERS", "messaging.nats.message.stream_sequence": "1",
		"messaging.nats.message.consumer_sequence": "1", "messaging.nats.message.delivery_count": "1",
		"messaging.nats.message.settlement": "ack", "messaging.batch.message_count": "", "error.type": "", "n": "1",
		"server.address": "nats.example",
	})
	l := wantLink(t, s, produced.SpanContext())
	wantAttrs(t, l.Attributes, map[string]string{
		"link.trace_id": produced.SpanContext().TraceID().String(), "link.relationship": "triggered_by",
		"link.event_type": "orders.created", "messaging.message.id": "orders.created.1",
		"messaging.destination.name": "orders.created.1", "order.id": "1",
	})
	settled := tap.only(t, "ack orders.created.{order_id}")
	wantChild(t, settled, s.SpanContext())
	if settled.SpanKind() != trace.SpanKindClient {
		t.Errorf("ack's kind is %v", settled.SpanKind())
	}
	wantAttrs(t, settled.Attributes(), map[string]string{
		"messaging.operation.name": "ack", "messaging.operation.type": "settle", "messaging.destination.name": "orders.created.1",
		"messaging.consumer.group.name": "payments", "messaging.message.id": "orders.created.1",
	})
}

func TestProcessBaggagePrecedence(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	header := nats.Header{"traceparent": {valid}, "baggage": {"order.id=theirs,only=1"}}
	check := func(ctx context.Context, opts []tracing.ProcessOption, order, only string) {
		t.Helper()
		_ = tap.Process(ctx, arrived(header), func(ctx context.Context, _ jetstream.Msg) error {
			b := baggage.FromContext(ctx)
			if b.Member("order.id").Value() != order || b.Member("only").Value() != only {
				t.Errorf("baggage is %s", b)
			}
			return nil
		}, opts...)
	}
	root := withOrder(context.Background(), "own")
	ambient, span := tap.provider.Tracer("test").Start(root, "ambient")
	defer span.End()
	check(root, nil, "theirs", "1")
	check(ambient, nil, "own", "1")
	check(root, []tracing.ProcessOption{tracing.WithUntrusted()}, "own", "")
	check(context.Background(), []tracing.ProcessOption{tracing.WithUntrusted()}, "", "")
}

func TestProcessParents(t *testing.T) {
	producer := trace.SpanContextFromContext(w3c().Extract(context.Background(), tracing.HeaderCarrier{"traceparent": {valid}}))
	header := nats.Header{"traceparent": {valid}}

	t.Run("AmbientWithoutContext", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		ctx, ambient := tap.provider.Tracer("test").Start(context.Background(), "ambient")
		_ = tap.Process(ctx, arrived(nil), nothing)
		s := tap.only(t, "process orders.created.{order_id}")
		wantChild(t, s, ambient.SpanContext())
		if len(s.Links()) != 0 {
			t.Errorf("%d links", len(s.Links()))
		}
	})
	t.Run("Topology", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample(), tracing.WithTopologyParent())
		_ = tap.Process(context.Background(), arrived(header), nothing)
		s := tap.only(t, "process orders.created.{order_id}")
		wantChild(t, s, producer)
		wantLink(t, s, producer)
	})
	t.Run("TopologyAndAmbient", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample(), tracing.WithTopologyParent())
		ctx, ambient := tap.provider.Tracer("test").Start(context.Background(), "ambient")
		_ = tap.Process(ctx, arrived(header), nothing)
		s := tap.only(t, "process orders.created.{order_id}")
		wantChild(t, s, producer)
		if len(s.Links()) != 2 || s.Links()[1].SpanContext.SpanID() != ambient.SpanContext().SpanID() {
			t.Errorf("links are %v", s.Links())
		}
	})
	t.Run("TopologyUntrusted", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample(), tracing.WithTopologyParent())
		_ = tap.Process(context.Background(), arrived(header), nothing, tracing.WithUntrusted())
		s := tap.only(t, "process orders.created.{order_id}")
		wantRoot(t, s)
		wantAttrs(t, wantLink(t, s, producer).Attributes, map[string]string{"link.untrusted": "true"})
	})
	// Without an SDK, the handler's messages pass the producer's context on.
	for name, provider := range map[string]trace.TracerProvider{"NoSDK": noProvider, "NoGlobalSDK": nil} {
		t.Run(name, func(t *testing.T) {
			tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagators(w3c()))
			_ = tracer.Process(context.Background(), arrived(header), func(ctx context.Context, _ jetstream.Msg) error {
				_, send := tracer.StartSend(ctx, nats.NewMsg("payments.confirmed.1"))
				send.End(nil, nil)
				if got := send.Msg.Header.Get("traceparent"); got != valid {
					t.Errorf("passed on %q, want %q", got, valid)
				}
				return nil
			})
			_ = tracer.Process(context.Background(), arrived(header), func(ctx context.Context, _ jetstream.Msg) error {
				if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
					t.Errorf("the context %s of an untrusted producer is the handler's", sc.SpanID())
				}
				return nil
			}, tracing.WithUntrusted())
		})
	}
}

func TestProcessOptions(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	msg := arrived(nats.Header{"traceparent": {valid}})
	_ = tap.Process(context.Background(), msg, nothing,
		tracing.WithDestination("orders"), tracing.WithRelationship("payment_confirmation"))
	s := tap.only(t, "process orders.created.{order_id}")
	wantAttrs(t, s.Attributes(), map[string]string{"messaging.consumer.group.name": ""})
	wantAttrs(t, s.Links()[0].Attributes, map[string]string{"link.relationship": "payment_confirmation"})

	// Without a template the destination is the bounded name, or none: not the stream.
	msg.subject = "plain"
	_ = tap.Process(context.Background(), msg, nothing, tracing.WithDestination("orders"))
	tap.only(t, "process orders")
	_ = tap.Process(context.Background(), msg, nothing)
	tap.only(t, "process")
}

type declined struct{}

func (declined) Error() string     { return "card 4242 declined" }
func (declined) ErrorType() string { return "card_declined" }

type plain struct{}

func (*plain) Error() string { return "plain" }

func TestProcessErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("secret"), "_OTHER"},
		{fmt.Errorf("a: %w", errors.New("secret")), "_OTHER"},
		{errors.Join(errors.New("a"), errors.New("b")), "_OTHER"},
		{fmt.Errorf("a: %w", declined{}), "card_declined"},
		{&plain{}, "*test.plain"},
		{context.Canceled, "canceled"},
		{fmt.Errorf("a: %w", context.DeadlineExceeded), "timeout"},
		{nats.ErrTimeout, "timeout"},
		{jetstream.ErrNoStreamResponse, "no_responders"},
		{nats.ErrNoResponders, "no_responders"},
		{jetstream.ErrStreamNotFound, "stream_not_found"},
		{fmt.Errorf("nats: %w", &jetstream.APIError{Code: 400, ErrorCode: 10164}), "wrong_last_sequence"},
		{&jetstream.APIError{Code: 409, ErrorCode: 10158}, "jetstream_10158"},
		{jetstream.ErrMsgAlreadyAckd, "already_acknowledged"},
		{jetstream.ErrConsumerDeleted, "consumer_deleted"},
		{jetstream.ErrNoHeartbeat, "no_heartbeat"},
		{fmt.Errorf("wrapped: %w", jetstream.ErrConsumerLeadershipChanged), "leadership_change"},
		{jetstream.ErrKeyNotFound, "key_not_found"},
		{nats.ErrSlowConsumer, "slow_consumer"},
		{nats.ErrStaleConnection, "stale_connection"},
		{jetstream.ErrHistoryTooLarge, "_OTHER"}, // a type without a name
	} {
		tap := newTap(sdktrace.AlwaysSample())
		got := tap.Process(context.Background(), arrived(nil), func(context.Context, jetstream.Msg) error { return tt.err })
		if got != tt.err {
			t.Errorf("got %v, want the handler's error", got)
		}
		s := tap.only(t, "process orders.created.{order_id}")
		wantAttrs(t, s.Attributes(), map[string]string{"error.type": tt.want})
		if s.Status() != (sdktrace.Status{Code: codes.Error, Description: tt.want}) || len(s.Events()) != 0 {
			t.Errorf("%v: status %v, %d events", tt.err, s.Status(), len(s.Events()))
		}
	}
}
