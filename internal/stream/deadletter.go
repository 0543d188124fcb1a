package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/pkg/tracing"
)

// errUnfinished is why an event that was delivered too often becomes a dead letter
// before it is handled once more: its handlers crashed, or were cut off.
var errUnfinished = fmt.Errorf("delivered more than %d times, and never settled", maxDeliveries)

// Headers that a dead letter has beside those of its message. They stay on it when
// it is sent again.
const (
	reasonHeader     = "deadletter-reason"
	errorHeader      = "deadletter-error"
	deliveriesHeader = "deadletter-deliveries"
	consumerHeader   = "deadletter-consumer"
	streamHeader     = "deadletter-stream"
	sequenceHeader   = "deadletter-sequence"
	subjectHeader    = "deadletter-subject"
	timeHeader       = "deadletter-time"
	spanHeader       = "deadletter-traceparent"
)

// Reasons of a dead letter.
const (
	ReasonPermanent  = "permanent"  // trying again could not have helped
	ReasonDeliveries = "deliveries" // it failed too often
)

// giveUpTimeout bounds the storing of a dead letter.
const giveUpTimeout = 2 * time.Second

// maxErrorText is how much of an error a dead letter tells.
const maxErrorText = 1000 // bytes

// DeadLetter is a message that a consumer has given up.
type DeadLetter struct {
	ID         string // <consumer>.<sequence>
	Consumer   string // the durable
	Subject    string // the event's
	Stream     string // where the event is still
	Sequence   uint64 // in that stream: of the delivery that failed
	Reason     string // ReasonPermanent or ReasonDeliveries
	Error      string
	Deliveries uint64
	Time       time.Time // when it was given up
	Span       string    // that failed, as a W3C traceparent
	Header     nats.Header
	Data       []byte
}

// giveUp stores a dead letter, once for each delivery that is given up.
func (c *Client) giveUp(ctx context.Context, m jetstream.Msg, e event.Event, cause error, what consumption) error {
	// The handler may have used up its time, and AckWait with it.
	ctx = context.WithoutCancel(ctx)
	if err := m.InProgress(); err != nil {
		return err
	}
	if what.beforeDeadLetter != nil {
		before, cancel := context.WithTimeout(ctx, handlerTimeout)
		err := what.beforeDeadLetter(before, e)
		cancel()
		if err != nil && !isPermanent(err) {
			return fmt.Errorf("before it becomes a dead letter: %w", err)
		}
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	why := ReasonDeliveries
	if isPermanent(cause) {
		why = ReasonPermanent
	}
	about := map[string]string{
		reasonHeader:     why,
		errorHeader:      oneLine(cause.Error()),
		deliveriesHeader: strconv.FormatUint(meta.NumDelivered, 10),
		consumerHeader:   what.durable,
		streamHeader:     meta.Stream,
		sequenceHeader:   strconv.FormatUint(meta.Sequence.Stream, 10),
		subjectHeader:    e.Subject,
		timeHeader:       time.Now().UTC().Format(time.RFC3339Nano),
		spanHeader:       traceparentOf(ctx),
	}
	letter := c.tracing.Forward(m, event.DeadLetter(what.durable, strconv.FormatUint(meta.Sequence.Stream, 10)))
	for name, value := range about {
		letter.Header[name] = []string{value}
	}
	ctx, cancel := context.WithTimeout(ctx, giveUpTimeout)
	defer cancel()
	err = c.store(ctx, letter)
	if isPermanent(err) {
		// Too large with what was added. The message itself is in its stream: its
		// envelope will do.
		for name := range letter.Header {
			if _, added := about[name]; !added && !strings.HasPrefix(name, "ce-") {
				delete(letter.Header, name)
			}
		}
		letter.Data = nil
		err = c.store(ctx, letter)
	}
	return err
}

// store publishes a dead letter, unless it is there.
func (c *Client) store(ctx context.Context, letter *nats.Msg) error {
	ctx, send := c.tracing.StartSend(ctx, letter)
	ack, err := c.publish(ctx, send.Msg, jetstream.WithExpectLastSequenceForSubject(0, letter.Subject))
	if lostGuard(err) != nil {
		ack, err = nil, nil // by whoever had the delivery before
	}
	send.End(ack, err)
	if err != nil {
		return fmt.Errorf("store the dead letter: %w", err)
	}
	return nil
}

// ErrNoDeadLetter is returned for an id under which there is none (any more).
var ErrNoDeadLetter = errors.New("there is no such dead letter")

// DeadLetters returns all dead letters, the oldest first.
func (c *Client) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	s, err := c.js.Stream(ctx, DeadLettersStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", DeadLettersStream, err)
	}
	var letters []DeadLetter
	for next := uint64(1); ; {
		m, err := s.GetMsg(ctx, next, jetstream.WithGetMsgSubject(event.DeadLetter("*", "*")))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return letters, nil
		}
		if err != nil {
			return letters, fmt.Errorf("read %s: %w", DeadLettersStream, err)
		}
		letters = append(letters, deadLetter(m.Subject, m.Header, m.Data))
		next = m.Sequence + 1
	}
}

// DeadLetter returns one. It returns ErrNoDeadLetter if there is none of that id.
func (c *Client) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	stored, err := c.stored(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	return deadLetter(stored.Subject, stored.Header, stored.Data), nil
}

func (c *Client) stored(ctx context.Context, id string) (*jetstream.RawStreamMsg, error) {
	consumer, sequence, _ := strings.Cut(id, ".")
	if _, err := strconv.ParseUint(sequence, 10, 64); err != nil || strings.ContainsAny(consumer, "*> \t\r\n") {
		return nil, fmt.Errorf("%q is not the id of a dead letter, which is <consumer>.<number>", id)
	}
	s, err := c.js.Stream(ctx, DeadLettersStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", DeadLettersStream, err)
	}
	m, err := s.GetLastMsgForSubject(ctx, event.DeadLetter(consumer, sequence))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %s: %w", id, err)
	}
	return m, nil
}

// Redrive sends the event of a dead letter to the consumer that gave it up, to it
// alone, and then removes the dead letter: if the event fails again, there is a
// new one. After a crash in between it can be sent once more, which is as harmless
// as any redelivery.
func (c *Client) Redrive(ctx context.Context, id string) error {
	stored, err := c.stored(ctx, id)
	if err != nil {
		return err
	}
	letter := deadLetter(stored.Subject, stored.Header, stored.Data)
	// Nobody but its one consumer reads another stream than ORDERS.
	subject := letter.Subject
	if letter.Stream == OrdersStream {
		subject = event.Redrive(letter.Consumer, letter.Subject)
	}
	if _, _, err := event.ParseSubject(letter.Subject); err != nil {
		return fmt.Errorf("send dead letter %s again: %w", id, err)
	}
	ctx, send := c.tracing.StartSend(ctx, c.tracing.Forward(envelope{stored}, subject))
	ack, err := c.publish(ctx, send.Msg)
	send.End(ack, err)
	if err != nil {
		return fmt.Errorf("send dead letter %s again: %w", id, err)
	}
	s, err := c.js.Stream(ctx, DeadLettersStream)
	if err == nil {
		err = s.DeleteMsg(ctx, stored.Sequence)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("dead letter %s was sent again, but is still there: %w", id, err)
	}
	return nil
}

// envelope makes a tracing.Message of a stored message.
type envelope struct{ *jetstream.RawStreamMsg }

func (e envelope) Headers() nats.Header { return e.Header }
func (e envelope) Data() []byte         { return e.RawStreamMsg.Data }

// deadLetter reads what giveUp has written. What is missing stays empty: it is for
// people to read.
func deadLetter(subject string, h nats.Header, data []byte) DeadLetter {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(lastValue(h, name), 10, 64)
		return n
	}
	at, _ := time.Parse(time.RFC3339Nano, lastValue(h, timeHeader))
	consumer, sequence, _ := event.CutDeadLetter(subject)
	return DeadLetter{
		ID: consumer + "." + sequence, Consumer: consumer,
		Subject: lastValue(h, subjectHeader), Stream: lastValue(h, streamHeader), Sequence: number(sequenceHeader),
		Reason: lastValue(h, reasonHeader), Error: lastValue(h, errorHeader), Deliveries: number(deliveriesHeader),
		Time: at, Span: lastValue(h, spanHeader), Header: h, Data: data,
	}
}

// failure links the span that failed, from a message that is sent again.
func (c *Client) failure(m jetstream.Msg) trace.Link {
	h := m.Headers()
	return c.tracing.Link(nats.Header{"traceparent": {lastValue(h, spanHeader)}},
		append(OrderID(m), tracing.RelationshipKey.String("redrive_of"))...)
}

// traceparentOf is the span in ctx as a W3C traceparent.
func traceparentOf(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// oneLine makes an error's text fit for a header.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "")
	}
	return s
}
