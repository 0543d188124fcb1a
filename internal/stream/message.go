package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// MessageAt returns the message of ORDERS that is stored under a sequence, as if it had
// just been delivered by a consumer without acks. It fails as EventAt does.
func (c *Client) MessageAt(ctx context.Context, sequence uint64) (jetstream.Msg, error) {
	m, err := ask(ctx, func(ctx context.Context) (*nats.Msg, error) {
		return c.message(ctx, map[string]any{"seq": sequence})
	})
	if err == nil {
		_, err = storedEvent(m)
	}
	if err != nil {
		return nil, fmt.Errorf("read message %d of %s: %w", sequence, OrdersStream, err)
	}
	return readMessage{m}, nil
}

// readMessage is a message that was read by a direct get.
type readMessage struct{ m *nats.Msg }

func (r readMessage) Subject() string      { return lastValue(r.m.Header, jetstream.SubjectHeader) }
func (r readMessage) Headers() nats.Header { return r.m.Header }
func (r readMessage) Data() []byte         { return r.m.Data }
func (r readMessage) Reply() string        { return "" }

func (r readMessage) Metadata() (*jetstream.MsgMetadata, error) {
	sequence, err := strconv.ParseUint(lastValue(r.m.Header, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, lastValue(r.m.Header, jetstream.TimeStampHeaer))
	return &jetstream.MsgMetadata{
		Sequence: jetstream.SequencePair{Stream: sequence}, NumDelivered: 1, Timestamp: at, Stream: OrdersStream,
	}, err
}

var errNotDelivered = errors.New("the message was read, not delivered: there is nothing to settle")

func (readMessage) Ack() error                       { return errNotDelivered }
func (readMessage) DoubleAck(context.Context) error  { return errNotDelivered }
func (readMessage) Nak() error                       { return errNotDelivered }
func (readMessage) NakWithDelay(time.Duration) error { return errNotDelivered }
func (readMessage) InProgress() error                { return errNotDelivered }
func (readMessage) Term() error                      { return errNotDelivered }
func (readMessage) TermWithReason(string) error      { return errNotDelivered }
