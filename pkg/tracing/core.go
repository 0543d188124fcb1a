package tracing

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// PublishMsg publishes a copy of msg on nc, without JetStream, in a publish span.
// See [Tracer.StartSend] for the copy.
func (t *Tracer) PublishMsg(ctx context.Context, nc *nats.Conn, msg *nats.Msg) (err error) {
	_, s := t.startSend(ctx, msg, opPublish, producer, nc)
	err = nc.PublishMsg(s.Msg)
	s.End(nil, err)
	return err
}

// MsgHandler returns a handler for [nats.Conn.Subscribe] and
// [nats.Conn.QueueSubscribe] that calls handler in a process span: the root of a
// new trace that links the publisher's span. The error of handler is on the span;
// nothing else happens with it. For requests see [Tracer.RequestHandler].
func (t *Tracer) MsgHandler(handler func(context.Context, *nats.Msg) error, opts ...ProcessOption) nats.MsgHandler {
	return func(msg *nats.Msg) {
		t.handle(msg.Subject, msg.Header, len(msg.Data), false, opts,
			func(ctx context.Context) error { return handler(ctx, msg) })
	}
}

// Request sends a copy of msg and waits for the reply, in a CLIENT span. See
// [Tracer.StartSend] for the copy; but a valid context in msg is only linked. The
// requester waits, so the responder's span is a child of the request span, see
// [Tracer.RequestHandler].
func (t *Tracer) Request(ctx context.Context, nc *nats.Conn, msg *nats.Msg) (*nats.Msg, error) {
	ctx, s := t.startSend(ctx, msg, opRequest, client, nc)
	reply, err := nc.RequestMsgWithContext(ctx, s.Msg)
	s.End(nil, err)
	return reply, err
}

// RequestHandler returns a handler for [nats.Conn.Subscribe] and
// [nats.Conn.QueueSubscribe] that calls handler in a SERVER span, a child of the
// request span. The error of handler is on the span; handler must also send it to
// the requester. With [WithUntrusted] the span is a root that links the request.
func (t *Tracer) RequestHandler(handler func(context.Context, *nats.Msg) error, opts ...ProcessOption) nats.MsgHandler {
	return func(msg *nats.Msg) {
		t.handle(msg.Subject, msg.Header, len(msg.Data), true, opts,
			func(ctx context.Context) error { return handler(ctx, msg) })
	}
}

// MicroHandler returns a handler for an endpoint of package micro that works like
// [Tracer.RequestHandler].
func (t *Tracer) MicroHandler(handler func(context.Context, micro.Request) error, opts ...ProcessOption) micro.Handler {
	return micro.HandlerFunc(func(r micro.Request) {
		t.handle(r.Subject(), nats.Header(r.Headers()), len(r.Data()), true, opts,
			func(ctx context.Context) error { return handler(ctx, r) })
	})
}

// handle calls handler in the span of one message of core NATS.
func (t *Tracer) handle(subject string, h nats.Header, size int, child bool, opts []ProcessOption, handler func(context.Context) error) {
	ctx := context.Background()
	if t.filtered(subject, h) {
		_ = handler(ctx)
		return
	}
	c := newProcessConfig(opts)
	if !t.bodySize {
		size = -1
	}
	p := &processing{operation: operation{tracer: t, name: opProcess}}
	p.deliveries = []delivery{{message: message{subject: subject, template: t.templateOf(subject), header: h, size: size}}}
	p.startMessage(ctx, child, &c)
	_ = p.run(func() error { return handler(p.ctx) })
}
