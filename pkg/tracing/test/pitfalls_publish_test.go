package test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The future of an asynchronous publish belongs to the caller: a second reader of
// its channel would get nothing, so there must be none in this package.
func TestPitfall08AsynchronousPublish(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	for range 20 {
		_, send := tap.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
		future, err := js.PublishMsgAsync(send.Msg)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case ack := <-future.Ok():
			send.End(ack, nil)
		case err := <-future.Err():
			t.Fatal(err)
		case <-time.After(10 * time.Second):
			t.Fatal("the caller of the future gets nothing")
		}
	}
	spans := tap.named("publish orders.created.{order_id}")
	if len(spans) != 20 {
		t.Fatalf("%d spans, want 20", len(spans))
	}
	wantAttrs(t, spans[19].Attributes(), map[string]string{"messaging.nats.message.stream_sequence": "20", "messaging.nats.stream.name": "ORDERS"})

	_, send := tap.StartSend(context.Background(), nats.NewMsg("nobody.listens.1"))
	future, err := js.PublishMsgAsync(send.Msg, jetstream.WithRetryAttempts(1), jetstream.WithRetryWait(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-future.Err():
		send.End(nil, err)
	case <-time.After(10 * time.Second):
		t.Fatal("no error")
	}
	wantAttrs(t, tap.only(t, "publish nobody.listens.{order_id}").Attributes(), map[string]string{"error.type": "no_responders"})
}

func TestPitfall09Duplicate(t *testing.T) {
	js := mustJetStream(t)
	tap := newTap(sdktrace.AlwaysSample())
	for range 2 {
		if _, err := tap.Publish(context.Background(), js, nats.NewMsg("orders.created.1"), jetstream.WithMsgID("1")); err != nil {
			t.Fatal(err)
		}
	}
	spans := tap.named("publish orders.created.{order_id}")
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	for i, s := range spans {
		wantAttrs(t, s.Attributes(), map[string]string{
			"messaging.nats.message.duplicate":       []string{"", "true"}[i],
			"messaging.nats.message.stream_sequence": "1", "messaging.message.id": "1", "error.type": "",
		})
	}
	// What is stored is the first one's: only that is ever linked.
	_ = tap.Process(context.Background(), mustFetch(t, js, "payments", 1)[0], ack)
	wantLink(t, tap.only(t, "process orders.created.{order_id}"), spans[0].SpanContext())
}
