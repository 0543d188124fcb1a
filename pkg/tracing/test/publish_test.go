package test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

func TestPublish(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	ctx, parent := tap.provider.Tracer("test").Start(context.Background(), "place order")

	msg := nats.NewMsg("orders.created.1")
	ack, err := tap.Publish(ctx, js, msg, jetstream.WithMsgID("first"))
	if err != nil || ack.Sequence != 1 {
		t.Fatalf("got %v, %v", ack, err)
	}
	if len(msg.Header) != 0 {
		t.Errorf("the message's own header became %v", msg.Header)
	}
	s := tap.only(t, "publish orders.created.{order_id}")
	wantChild(t, s, parent.SpanContext())
	if s.SpanKind() != trace.SpanKindProducer || s.Status().Code != codes.Unset || len(s.Links()) != 0 {
		t.Errorf("kind %v, status %v, %d links", s.SpanKind(), s.Status().Code, len(s.Links()))
	}
	wantAttrs(t, s.Attributes(), map[string]string{
		"messaging.system": "nats", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.destination.name": "orders.created.1", "messaging.destination.template": "orders.created.{order_id}",
		"server.address": "nats.example", "server.port": "4222", "messaging.message.id": "first",
		"messaging.nats.stream.name": "ORDERS", "messaging.nats.message.stream_sequence": "1",
		"error.type": "", "messaging.nats.message.duplicate": "", "messaging.batch.message_count": "",
	})

	t.Run("Refused", func(t *testing.T) {
		tap := newTap(sdktrace.AlwaysSample())
		_, err := tap.Publish(ctx, js, msg, jetstream.WithExpectLastSequenceForSubject(0, "orders.*.1"))
		if err == nil {
			t.Fatal("a guard that does not hold gave no error")
		}
		s := tap.only(t, "publish orders.created.{order_id}")
		wantAttrs(t, s.Attributes(), map[string]string{"error.type": "wrong_last_sequence"})
		if s.Status() != (sdktrace.Status{Code: codes.Error, Description: "wrong_last_sequence"}) {
			t.Errorf("status is %v", s.Status())
		}
	})
}

func TestPublishNames(t *testing.T) {
	for _, tt := range []struct{ name, template, want string }{
		{"NoTemplate", "", "publish"},
		{"Template", "orders.{kind}.v1.{order_id}", "publish orders.{kind}.v1.{order_id}"},
		{"OnlyVariables", "{a}.{b}", "publish {a}.{b}"},
		{"Bounded", "orders.created", "publish orders.created"},
		{"Inbox", "_INBOX.abc", "publish"},
		{"Ack", "$JS.ACK.ORDERS.x.1", "publish"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample(), tracing.WithDestinationTemplate(func(string) string { return tt.template }))
			_, send := tap.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
			send.End(nil, nil)
			tap.only(t, tt.want)
		})
	}
}

func TestPublishInjects(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header nats.Header
	}{
		{"Nil", nil},
		{"StaleTracestate", nats.Header{"tracestate": {"old=1"}}},
		{"StaleBaggage", nats.Header{"baggage": {"old=1"}}},
		{"OtherCase", nats.Header{"Traceparent": {"bad"}, "TraceState": {"old=1"}}},
		{"Renamed", nats.Header{"Xraceparent": {"bad"}}},
		{"EmptyValue", nats.Header{"traceparent": {""}}},
		{"NoValue", nats.Header{"traceparent": {}, "tracestate": nil}},
		{"Malformed", nats.Header{"traceparent": {"00-" + strings.ToUpper(traceID1) + "-" + spanID1 + "-01"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			msg := &nats.Msg{Subject: "orders.created.1", Header: tt.header, Data: []byte("{}")}
			_, send := tap.StartSend(context.Background(), msg)
			send.End(nil, nil)
			s := tap.only(t, "publish orders.created.{order_id}")
			sc := s.SpanContext()
			want := "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
			if got := send.Msg.Header; len(got) != 1 || got.Get("traceparent") != want {
				t.Errorf("header is %v, want only %s", got, want)
			}
			if s.SpanKind() != trace.SpanKindProducer || len(s.Links()) != 0 {
				t.Errorf("kind %v, %d links", s.SpanKind(), len(s.Links()))
			}
		})
	}
}

func TestPublishKeepsCustomContext(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	msg := &nats.Msg{Subject: "orders.created.1", Header: nats.Header{
		"traceparent": {valid}, "tracestate": {"v=1"}, "baggage": {"order.id=1"}, "ce-type": {"orders.created"},
	}}
	_, send := tap.StartSend(withOrder(context.Background(), "2"), msg)
	send.End(nil, nil)
	s := tap.only(t, "publish orders.created.{order_id}")
	l := wantLink(t, s, trace.SpanContextFromContext(w3c().Extract(context.Background(), tracing.HeaderCarrier(msg.Header))))
	if s.SpanKind() != trace.SpanKindClient {
		t.Errorf("kind is %v, want client", s.SpanKind())
	}
	wantAttrs(t, l.Attributes, map[string]string{"link.trace_id": traceID1, "link.event_type": "orders.created", "link.relationship": "creation"})
	for k, vs := range msg.Header {
		if got := send.Msg.Header[k]; len(got) != 1 || got[0] != vs[0] {
			t.Errorf("%s became %v", k, got)
		}
	}
}

func TestPublishNeverFailsForTracing(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	m, _ := baggage.NewMemberRaw("k", strings.Repeat("x", 4000))
	b, _ := baggage.New(m)
	ctx := baggage.ContextWithBaggage(context.Background(), b)
	maxPayload := int(js.Conn().MaxPayload())
	for _, tt := range []struct {
		name                 string
		header, data         int
		traceparent, baggage bool
	}{
		{"Fits", 1000, 10, true, true},
		{"BaggageDoesNot", 62_000, 10, true, false},
		{"NothingDoes", 65_480, 10, false, false},
		{"PayloadLeavesNoBaggage", 0, maxPayload - 3000, true, false},
		{"PayloadLeavesNothing", 0, maxPayload, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			msg := &nats.Msg{Subject: "orders.created.1", Data: make([]byte, tt.data)}
			if tt.header > 0 {
				msg.Header = nats.Header{"big": {strings.Repeat("x", tt.header)}}
			}
			ack, err := tap.Publish(ctx, js, msg)
			if err != nil {
				t.Fatal(err)
			}
			stream, err := js.Stream(ctx, "ORDERS")
			if err != nil {
				t.Fatal(err)
			}
			stored, err := stream.GetMsg(ctx, ack.Sequence)
			if err != nil {
				t.Fatal(err)
			}
			_, hasContext := stored.Header["traceparent"]
			_, hasBaggage := stored.Header["baggage"]
			if hasContext != tt.traceparent || hasBaggage != tt.baggage {
				t.Errorf("context %t, baggage %t", hasContext, hasBaggage)
			}
		})
	}
}

func TestSendEndsOnce(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	_, send := tap.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { send.End(&jetstream.PubAck{Stream: "ORDERS", Sequence: 9}, nil) })
	}
	all.Wait()
	send.End(nil, errors.New("late"))
	s := tap.only(t, "publish orders.created.{order_id}")
	wantAttrs(t, s.Attributes(), map[string]string{"error.type": "", "messaging.message.id": "9"})
}

type publisherFunc func() (*jetstream.PubAck, error)

func (f publisherFunc) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return f()
}

func TestPublishPanic(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recovered %v", got)
			}
		}()
		_, _ = tap.Publish(context.Background(), publisherFunc(func() (*jetstream.PubAck, error) { panic("boom") }), nats.NewMsg("orders.created.1"))
	}()
	wantAttrs(t, tap.only(t, "publish orders.created.{order_id}").Attributes(), map[string]string{"error.type": "panic"})
}

func TestPublishNilMessage(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	if _, err := tap.Publish(context.Background(), js, nil); !errors.Is(err, nats.ErrBadSubject) {
		t.Errorf("got %v", err)
	}
}

// A stream may limit its messages, headers included. A message that it would
// take untraced is taken traced.
func TestPublishFitsTheStream(t *testing.T) {
	js := mustJetStream(t)
	ctx := context.Background()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small.>"}, MaxMsgSize: 200})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		header nats.Header
		size   int
		traced bool
		class  string
	}{
		{"Fits", nil, 100, true, ""},
		{"Full", nil, 200, false, ""},
		{"FullWithHeader", nats.Header{"kept": {"1"}}, 170, false, ""},
		{"FullWithOldContext", nats.Header{"traceparent": {valid}}, 110, true, ""},
		{"TooLarge", nil, 201, false, "message_too_large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample())
			ack, err := tap.Publish(ctx, js, &nats.Msg{Subject: "small.1", Header: tt.header, Data: make([]byte, tt.size)})
			wantAttrs(t, tap.only(t, "publish").Attributes(), map[string]string{"error.type": tt.class})
			if (err != nil) != (tt.class != "") {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			stored, err := stream.GetMsg(ctx, ack.Sequence)
			if err != nil {
				t.Fatal(err)
			}
			if _, traced := stored.Header["traceparent"]; traced != tt.traced || stored.Header.Get("kept") != tt.header.Get("kept") {
				t.Errorf("stored with %v, want it traced: %t", stored.Header, tt.traced)
			}
		})
	}
}
