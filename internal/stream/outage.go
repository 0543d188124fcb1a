package stream

import (
	"errors"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Error codes of a server without free space, which the client library does not name.
var noSpace = []jetstream.ErrorCode{
	10023, // insufficient resources
	10047, // the server's storage limit
	10077, // the stream's limit
}

// Outage describes an [ErrUnavailable] to a person, without details.
func (c *Client) Outage(err error) string {
	var api *jetstream.APIError
	switch {
	case !c.nc.IsConnected():
		return "the shop has no connection to NATS"
	case errors.As(err, &api) && slices.Contains(noSpace, api.ErrorCode):
		return "the disk of NATS is full"
	}
	return "NATS does not answer in time"
}
