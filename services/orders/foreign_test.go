package orders_test

import (
	"github.com/nats-io/nats.go"
)

// foreign is a message with the ce-id of its subject, and nothing else that is
// right.
func foreign(subject, data string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{"ce-id": {subject}}, Data: []byte(data)}
}
