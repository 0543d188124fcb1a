package tracing

import (
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// Message is what [Tracer.Forward] needs of a message; a jetstream.Msg is one.
type Message interface {
	Headers() nats.Header
	Data() []byte
}

// Forward returns a copy of msg to be published on subject: as a dead letter, or
// to be handled once more. It keeps the headers, and with them the context in
// which msg was created, so that whoever processes the copy links the original
// producer; [Tracer.Publish] makes a CLIENT span that links it too.
//
// Left out are headers for the server (Nats-…, by which a copy would be taken
// for a duplicate, refused, scheduled or expire) and those that clients take for
// the server's (Status, Description).
func (t *Tracer) Forward(msg Message, subject string) *nats.Msg {
	header := nats.Header{}
	for name, values := range msg.Headers() {
		if !ofServer(name) {
			header[name] = slices.Clone(values)
		}
	}
	return &nats.Msg{Subject: subject, Header: header, Data: msg.Data()}
}

func ofServer(header string) bool {
	const prefix = "Nats-"
	return len(header) >= len(prefix) && strings.EqualFold(header[:len(prefix)], prefix) ||
		strings.EqualFold(header, "Status") || strings.EqualFold(header, "Description")
}
