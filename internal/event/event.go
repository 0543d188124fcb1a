// Package event is the contract between the services: the events, their subjects, and
// their form on the wire. Package stream stores and delivers them.
package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	json2 "github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
)

// Header names of a message: CloudEvents 1.0 in binary content mode. NATS
// headers are case-sensitive; these are written in lower case.
const (
	HeaderID          = "ce-id"
	HeaderSource      = "ce-source"
	HeaderType        = "ce-type"
	HeaderTime        = "ce-time"
	HeaderSpecVersion = "ce-specversion"
	HeaderContentType = "content-type"
)

// OrderIDKey is the attribute, and the baggage member, that names the order.
const OrderIDKey = attribute.Key("order.id")

// CompensationKey is the attribute of spans that undo an earlier effect. Its value is true.
const CompensationKey = attribute.Key("order.compensation")

// ErrForeign is wrapped by every error about a message that no service published in this
// form: it is forged, damaged, or a copy under another subject. A retry does not help.
var ErrForeign = errors.New("not a message of ordertrail's")

// Event is a stored event.
type Event struct {
	Type     Type
	Key      string // the order's id, or the SKU
	Subject  string
	Sequence uint64    // in its stream
	Time     time.Time // when the stream stored it
	Header   nats.Header
	Data     []byte // JSON
	Delivery uint64 // from 1; 0 for an event that was read and not delivered
	Retry    bool   // the handler runs again for the same delivery, because NATS was unavailable
	Redriven bool   // an operator has sent the dead letter again
}

// Check returns the Event of a message's parts. The ce-id of a message is its subject, and
// its payload names the key of the subject. Any other message did not get to this subject
// from its publisher (it is a reply sent there, or a copy); for it Check returns ErrForeign.
func Check(subject string, header nats.Header, data []byte) (Event, error) {
	t, key, err := ParseSubject(subject)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	// Exactly one value: with two it is undefined which one counts.
	if ids := header[HeaderID]; len(ids) != 1 || ids[0] != subject {
		return Event{}, fmt.Errorf("%w: %s of the message on %s is %.200q, not its subject", ErrForeign, HeaderID, subject, ids)
	}
	// Payloads of the services begin like this, so most need not be parsed.
	if ofOrder := known[t]; ofOrder && bytes.HasPrefix(data, []byte(`{"order_id":"`+key+`"`)) {
		return Event{Type: t, Key: key, Subject: subject, Header: header, Data: data}, nil
	}
	var about struct {
		OrderKey
		SKU  string `json:"sku"`
		Name string `json:"name"`
	}
	if err := json2.Unmarshal(data, &about); err != nil {
		return Event{}, fmt.Errorf("%w: payload of %s: %w", ErrForeign, subject, err)
	}
	named := about.OrderID
	switch t {
	case StockAdded:
		named = about.SKU
	case StockLease:
		named = about.Name
	}
	if named != key {
		return Event{}, fmt.Errorf("%w: payload of %s is about %.100q", ErrForeign, subject, named)
	}
	return Event{Type: t, Key: key, Subject: subject, Header: header, Data: data}, nil
}

// Decode returns the event's payload. It returns ErrForeign if the payload is not JSON of
// P's form, has a member twice, or does not name the key of the subject. Names of members
// are case-sensitive. It ignores members that P does not have, which a newer version may add.
func Decode[P Payload](e Event) (P, error) {
	var p P
	if err := json2.Unmarshal(e.Data, &p); err != nil {
		return p, fmt.Errorf("%w: payload of %s: %w", ErrForeign, e.Subject, err)
	}
	if p.Key() != e.Key {
		return p, fmt.Errorf("%w: payload of %s is about %.100q", ErrForeign, e.Subject, p.Key())
	}
	if v, ok := any(p).(interface{ valid() error }); ok {
		if err := v.valid(); err != nil {
			return p, fmt.Errorf("%w: payload of %s: %w", ErrForeign, e.Subject, err)
		}
	}
	return p, nil
}

// Draft is an event before it is published.
type Draft struct {
	Type    Type
	Payload Payload
}

// Subject returns the subject on which the draft is published.
func (d Draft) Subject() string { return d.Type.Subject(d.Payload.Key()) }

// Message encodes the draft. The same draft always has the same subject and ce-id, so a
// second publish of it is recognised.
func (d Draft) Message(now time.Time) (*nats.Msg, error) {
	data, err := json.Marshal(d.Payload)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", d.Type, err)
	}
	subject := d.Subject()
	if _, _, err := ParseSubject(subject); err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		HeaderSpecVersion: {"1.0"},
		HeaderID:          {subject},
		HeaderSource:      {"/ordertrail/" + d.Type.Publisher()},
		HeaderType:        {string(d.Type)},
		HeaderTime:        {now.UTC().Format(time.RFC3339Nano)},
		HeaderContentType: {"application/json"},
	}}, nil
}

// Find returns the first event of type t, and whether there is one.
func Find(events []Event, t Type) (Event, bool) {
	for _, e := range events {
		if e.Type == t {
			return e, true
		}
	}
	return Event{}, false
}
