package tracing

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Publisher is the part of [jetstream.JetStream] that [Tracer.Publish] needs.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Publish publishes a copy of msg that carries the context of a new span, and
// returns what js answers. See [Tracer.StartSend] for what the copy carries; in
// addition the copy stays below the payload limit of js's connection, if js
// tells its connection, as [jetstream.JetStream] does. If a stream refuses the
// copy because it takes smaller messages only, it is published once more without
// the context.
//
// msg is not changed, not even by opts, so it may be shared between goroutines.
func (t *Tracer) Publish(ctx context.Context, js Publisher, msg *nats.Msg, opts ...jetstream.PublishOpt) (ack *jetstream.PubAck, err error) {
	ctx, send := t.StartSend(ctx, msg)
	if c, ok := js.(interface{ Conn() *nats.Conn }); ok {
		send.fitPayload(c.Conn())
	}
	returned := false
	defer send.conclude(&returned, &ack, &err)
	ack, err = js.PublishMsg(ctx, send.Msg, opts...)
	if send.set > 0 && tooLarge(err) {
		send.withdraw()
		ack, err = js.PublishMsg(ctx, send.Msg, opts...)
	}
	returned = true
	return ack, err
}

// tooLarge reports whether a message exceeds what its stream takes. The server
// counts the header.
func tooLarge(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum
}
