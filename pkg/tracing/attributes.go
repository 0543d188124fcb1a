package tracing

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// RelationshipKey is the link attribute with the reason of a link: triggered_by,
// payment_confirmation. [WithRelationship] sets it on the links of process spans;
// pass it to [Tracer.Link] for your own links.
const RelationshipKey = attribute.Key("link.relationship")

// The conventions do not define these attributes.
const (
	linkTraceIDKey   = attribute.Key("link.trace_id") // lets a backend search for links to a trace
	linkEventTypeKey = attribute.Key("link.event_type")
	linkUntrustedKey = attribute.Key("link.untrusted")

	streamKey           = attribute.Key("messaging.nats.stream.name")
	streamSequenceKey   = attribute.Key("messaging.nats.message.stream_sequence")
	consumerSequenceKey = attribute.Key("messaging.nats.message.consumer_sequence")
	deliveryCountKey    = attribute.Key("messaging.nats.message.delivery_count")
	duplicateKey        = attribute.Key("messaging.nats.message.duplicate")
	settlementKey       = attribute.Key("messaging.nats.message.settlement")
)

const (
	ceID   = "ce-id" // of CloudEvents 1.0 in binary mode
	ceType = "ce-type"
	// msgSize is set by consumers of headers alone.
	msgSize = "Nats-Msg-Size"
)

// first returns the first value of key. [nats.Header.Get] panics if there is none.
func first(h nats.Header, key string) string {
	if vs := h[key]; len(vs) > 0 {
		return vs[0]
	}
	return ""
}

// messageID returns the id that the producer gave a message, or "".
func messageID(h nats.Header) string {
	if id := first(h, ceID); id != "" {
		return id
	}
	return first(h, jetstream.MsgIDHeader)
}

// message is what tracing reads of an incoming message, once.
type message struct {
	subject  string
	template string
	reply    string // of JetStream: identifies the delivery
	header   nats.Header
	md       *jetstream.MsgMetadata // nil for a core NATS message
	size     int                    // of the body, -1 if it is not recorded
}

// headersOf returns the headers of msg, see readInto.
func headersOf(msg jetstream.Msg) (h nats.Header) {
	defer func() { _ = recover() }()
	return msg.Headers()
}

// read reads msg.
func (t *Tracer) read(msg jetstream.Msg) message {
	m := message{size: -1}
	t.readInto(&m, msg)
	m.template = t.templateOf(m.subject)
	return m
}

// readInto reads what msg has. Test doubles often embed a nil jetstream.Msg, so that
// methods they do not define panic; tracing does without those.
func (t *Tracer) readInto(m *message, msg jetstream.Msg) {
	defer func() { _ = recover() }()
	m.subject = msg.Subject()
	m.header = msg.Headers()
	m.md, _ = msg.Metadata()
	if t.bodySize {
		m.size = bodySize(m.header, msg.Data())
	}
	m.reply = msg.Reply()
}

// readAll returns the deliveries of msgs, without a handler.
func (t *Tracer) readAll(msgs []jetstream.Msg) []delivery {
	deliveries := make([]delivery, len(msgs))
	for i, msg := range msgs {
		deliveries[i] = delivery{Msg: msg, message: t.read(msg)}
	}
	return deliveries
}

// bodySize returns the size of a body, also of one that was not delivered.
func bodySize(h nats.Header, data []byte) int {
	if stated := first(h, msgSize); stated != "" && len(data) == 0 {
		if n, err := strconv.Atoi(stated); err == nil {
			return n
		}
	}
	return len(data)
}

// describe records the attributes that differ between messages of one kind.
func (o *operation) describe(m *message) {
	if !o.span.IsRecording() {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 5)
	id := messageID(m.header)
	if m.md != nil {
		if id == "" {
			id = strconv.FormatUint(m.md.Sequence.Stream, 10)
		}
		attrs = append(attrs,
			streamKey.String(m.md.Stream),
			streamSequenceKey.Int64(int64(m.md.Sequence.Stream)),
			consumerSequenceKey.Int64(int64(m.md.Sequence.Consumer)),
			deliveryCountKey.Int64(int64(m.md.NumDelivered)))
	}
	if id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(id))
	}
	if m.size >= 0 {
		attrs = append(attrs, semconv.MessagingMessageBodySize(m.size))
	}
	o.span.SetAttributes(attrs...)
}

// Link returns a link to the span that produced a stored message, from the
// headers of the message. Use it for fan-in: a span that concludes what several
// messages began. Without a valid context it returns the zero Link, which the
// SDK ignores.
//
// The link has link.trace_id, by which a backend finds all links to a trace;
// link.event_type from ce-type; messaging.message.id from ce-id, else from
// Nats-Msg-Id; and attrs, which should have a [RelationshipKey]. Samplers of
// package sampling trust it.
func (t *Tracer) Link(header nats.Header, attrs ...attribute.KeyValue) trace.Link {
	sc := t.creation(header)
	if !sc.IsValid() {
		return trace.Link{}
	}
	return trace.Link{SpanContext: sc, Attributes: append(linkAttributes(sc, header, len(attrs)), attrs...)}
}

// linkAttributes returns the attributes of a link to the creation context sc, with
// room for n more.
func linkAttributes(sc trace.SpanContext, h nats.Header, n int) []attribute.KeyValue {
	attrs := append(make([]attribute.KeyValue, 0, 3+n), linkTraceIDKey.String(sc.TraceID().String()))
	if event := first(h, ceType); event != "" {
		attrs = append(attrs, linkEventTypeKey.String(event))
	}
	if id := messageID(h); id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(id))
	}
	return attrs
}

// link returns the link of a process or receive span to the producer of d.
func (c *processConfig) link(sc trace.SpanContext, d *delivery, relationship string) trace.Link {
	var own []attribute.KeyValue
	if c.linkAttributes != nil && d.Msg != nil {
		own = c.linkAttributes(d.Msg)
	}
	attrs := append(linkAttributes(sc, d.header, 2+len(own)),
		RelationshipKey.String(cmp.Or(c.relationship, relationship)),
		semconv.MessagingDestinationName(d.subject))
	attrs = append(attrs, own...)
	if c.untrusted {
		attrs = append(attrs, linkUntrustedKey.Bool(true))
	}
	return trace.Link{SpanContext: sc, Attributes: attrs}
}

// Message is the part of a message that [Tracer.Forward] needs, for instance a
// [jetstream.Msg].
type Message interface {
	Headers() nats.Header
	Data() []byte
}

// Forward returns a copy of msg to publish on subject, for instance as a dead
// letter. The copy keeps the headers and with them the creation context, so that
// its consumers link the original producer; [Tracer.Publish] links it too.
//
// It leaves out the headers that a server would obey (Nats-…: the copy could be
// refused, scheduled, expire, or be dropped as a duplicate) and those that
// clients take for the server's (Status, Description).
func (t *Tracer) Forward(msg Message, subject string) *nats.Msg {
	header := nats.Header{}
	for name, values := range msg.Headers() {
		if folded := strings.ToLower(name); !strings.HasPrefix(folded, "nats-") && folded != "status" && folded != "description" {
			header[name] = slices.Clone(values)
		}
	}
	return &nats.Msg{Subject: subject, Header: header, Data: msg.Data()}
}
