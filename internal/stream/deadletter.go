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

// errUnfinished is the cause of a dead letter whose handlers never came to an end:
// they crashed, or were cut off.
var errUnfinished = fmt.Errorf("delivered more than %d times, and never settled", maxDeliveries)

// Headers that a dead letter has beside those of its message. It keeps them when it
// is sent again.
const (
	reasonHeader     = "deadletter-reason"
	errorHeader      = "deadletter-error"
	deliveriesHeader = "deadletter-deliveries"
	consumerHeader   = "deadletter-consumer"
	streamHeader     = "deadletter-stream"
	sequenceHeader   = "deadletter-sequence"
	subjectHeader    = "deadletter-subject"
	storedHeader     = "deadletter-stored"
	timeHeader       = "deadletter-time"
	spanHeader       = "deadletter-traceparent"
)

// Reasons of a dead letter.
const (
	ReasonPermanent  = "permanent"  // a retry could not have helped
	ReasonDeliveries = "deliveries" // it failed too often
)

const (
	giveUpTimeout  = 2 * time.Second // to store a dead letter
	redriveTimeout = 15 * time.Second
	maxErrorText   = 1000 // bytes of an error that a dead letter contains
)

// DeadLetter is a message that a consumer has given up.
type DeadLetter struct {
	ID         string // <consumer>.<sequence>
	Consumer   string // the durable
	Subject    string // of the event
	Stream     string // that contains the event
	Sequence   uint64 // of the delivery that failed, in Stream
	Reason     string // ReasonPermanent or ReasonDeliveries
	Error      string
	Deliveries uint64
	Time       time.Time // when the consumer gave it up
	Span       string    // that failed, as a W3C traceparent
	Header     nats.Header
	Data       []byte

	position uint64 // in DEADLETTERS
}

// giveUp stores a dead letter, once for each delivery that is given up.
func (c *Client) giveUp(ctx context.Context, m jetstream.Msg, e event.Event, cause error, d Durable) error {
	// The handler may have used up its time, and AckWait with it.
	ctx = context.WithoutCancel(ctx)
	if err := m.InProgress(); err != nil {
		return err
	}
	if d.BeforeDeadLetter != nil {
		before, cancel := context.WithTimeout(ctx, handlerTimeout)
		err := d.BeforeDeadLetter(before, e)
		cancel()
		if err != nil && !IsPermanent(err) {
			return fmt.Errorf("clean up before it becomes a dead letter: %w", err)
		}
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	reason := ReasonDeliveries
	if IsPermanent(cause) {
		reason = ReasonPermanent
	}
	span := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, span)
	about := map[string]string{
		reasonHeader:     reason,
		errorHeader:      oneLine(cause, maxErrorText),
		deliveriesHeader: strconv.FormatUint(meta.NumDelivered, 10),
		consumerHeader:   d.Name,
		streamHeader:     meta.Stream,
		sequenceHeader:   strconv.FormatUint(meta.Sequence.Stream, 10),
		subjectHeader:    e.Subject,
		storedHeader:     stamp(meta.Timestamp),
		timeHeader:       time.Now().UTC().Format(time.RFC3339Nano),
		spanHeader:       span["traceparent"],
	}
	letter := c.tracing.Forward(m, event.DeadLetter(d.Name, strconv.FormatUint(meta.Sequence.Stream, 10)))
	for name, value := range about {
		letter.Header[name] = []string{value}
	}
	ctx, cancel := context.WithTimeout(ctx, giveUpTimeout)
	defer cancel()
	err = c.storeLetter(ctx, letter)
	if IsPermanent(err) {
		// The added headers made it too large. The message itself stays in its stream:
		// its CloudEvents headers are enough here.
		for name := range letter.Header {
			if _, added := about[name]; !added && !strings.HasPrefix(name, "ce-") {
				delete(letter.Header, name)
			}
		}
		letter.Data = nil
		err = c.storeLetter(ctx, letter)
	}
	return err
}

// storeLetter publishes a dead letter. It succeeds if the letter is stored already,
// by a replica that gave up the same delivery.
//
// The subject contains a sequence, which repeats in a stream that was replaced. So the
// letter that has the subject may be another one: then this one is stored behind it.
func (c *Client) storeLetter(ctx context.Context, letter *nats.Msg) error {
	ctx, send := c.tracing.StartSend(ctx, letter)
	guard := Guard{Filter: letter.Subject}
	ack, err := c.store(ctx, send.Msg, guard.options()...)
	for refusal := lostGuard(err); refusal != nil; refusal = lostGuard(err) {
		var last *nats.Msg
		if last, err = c.lastLetter(ctx, letter.Subject, refusal); err != nil {
			break
		}
		if sameLetter(last.Header, letter.Header) {
			ack, err = nil, nil
			break
		}
		if guard.Last, err = strconv.ParseUint(lastValue(last.Header, jetstream.SequenceHeader), 10, 64); err == nil {
			ack, err = c.store(ctx, send.Msg, guard.options()...)
		}
	}
	send.End(ack, err)
	if err != nil {
		return fmt.Errorf("store the dead letter: %w", err)
	}
	return nil
}

// lastLetter returns the last dead letter on a subject, which the refusal of another
// one names. It asks until a replica has it. If it was deleted meanwhile, because it was
// sent again, lastLetter fails when ctx ends, and the message is given up again later.
func (c *Client) lastLetter(ctx context.Context, subject string, refusal *jetstream.APIError) (*nats.Msg, error) {
	at, err := refusedAt(refusal)
	if err != nil {
		return nil, err
	}
	return ask(ctx, func(ctx context.Context) (*nats.Msg, error) {
		m, err := c.nc.RequestMsgWithContext(ctx, nats.NewMsg("$JS.API.DIRECT.GET."+DeadLettersStream+"."+subject))
		if err != nil {
			return nil, err
		}
		sequence := lastValue(m.Header, jetstream.SequenceHeader)
		if found, err := strconv.ParseUint(sequence, 10, 64); err != nil || found < at {
			return nil, fmt.Errorf("dead letter %d is not there yet: %s %q", at, m.Header.Get("Status"), sequence)
		}
		return m, nil
	})
}

// sameLetter reports whether two dead letters of one subject are about the same stored
// message.
func sameLetter(a, b nats.Header) bool {
	for _, name := range []string{streamHeader, subjectHeader, storedHeader} {
		if lastValue(a, name) != lastValue(b, name) {
			return false
		}
	}
	return true
}

// ErrNoDeadLetter is returned for an id without a dead letter; it may have been sent
// again.
var ErrNoDeadLetter = errors.New("no such dead letter")

// letters returns the stream DEADLETTERS.
func (c *Client) letters(ctx context.Context) (jetstream.Stream, error) {
	s, err := c.js.Stream(ctx, DeadLettersStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", DeadLettersStream, err)
	}
	return s, nil
}

// DeadLetters returns all dead letters, the oldest first.
func (c *Client) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	s, err := c.letters(ctx)
	if err != nil {
		return nil, err
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
		letters = append(letters, deadLetter(m))
		next = m.Sequence + 1
	}
}

// CheckDeadLetterID returns an error if id has not the form of a dead letter's id.
func CheckDeadLetterID(id string) error {
	consumer, sequence, _ := strings.Cut(id, ".")
	if _, err := strconv.ParseUint(sequence, 10, 64); err != nil || strings.ContainsAny(consumer, "*> \t\r\n") {
		return fmt.Errorf("%q is not the id of a dead letter, which is <consumer>.<number>", id)
	}
	return nil
}

// DeadLetter returns the dead letter with this id, or ErrNoDeadLetter.
func (c *Client) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	if err := CheckDeadLetterID(id); err != nil {
		return DeadLetter{}, err
	}
	consumer, sequence, _ := strings.Cut(id, ".")
	s, err := c.letters(ctx)
	if err != nil {
		return DeadLetter{}, err
	}
	m, err := s.GetLastMsgForSubject(ctx, event.DeadLetter(consumer, sequence))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %s: %w", id, err)
	}
	return deadLetter(m), nil
}

// Redrive sends the event of a dead letter to the consumer that gave it up, and to no
// other, then deletes the dead letter. If the event fails again, there is a new one.
// After a crash in between the event may be sent once more, which is as harmless as
// any redelivery. Redrive fails after 15 s if the stream does not take the event, because
// it is full or missing, or because the client may not publish it.
func (c *Client) Redrive(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, c.redriveTimeout)
	defer cancel()
	letter, err := c.DeadLetter(ctx, id)
	if err != nil {
		return err
	}
	again, err := c.again(letter)
	if err == nil {
		_, err = c.Publish(ctx, again)
	}
	if err != nil {
		return fmt.Errorf("send dead letter %s again: %w", id, err)
	}
	s, err := c.letters(ctx)
	if err == nil {
		err = s.DeleteMsg(ctx, letter.position)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("dead letter %s was sent again, but could not be deleted: %w", id, err)
	}
	return nil
}

// again returns the message that Redrive sends.
func (c *Client) again(l DeadLetter) (*nats.Msg, error) {
	t, _, err := event.ParseSubject(l.Subject)
	if err != nil {
		return nil, err
	}
	// The subject decides, and not the stream that the letter names: a service that forges
	// a letter must not have an operator publish, for instance, more stock.
	subject := event.Redrive(l.Consumer, l.Subject)
	if domain := t.Domain(); domain == "deadlines" || domain == "mails" { // their streams have one consumer only
		if l.Consumer != t.Publisher() {
			return nil, fmt.Errorf("%s is no event of consumer %q", l.Subject, l.Consumer)
		}
		subject = l.Subject
	}
	return c.tracing.Forward(message{l.Header, l.Data}, subject), nil
}

// message is a stored message as a tracing.Message.
type message struct {
	header nats.Header
	data   []byte
}

func (m message) Headers() nats.Header { return m.header }
func (m message) Data() []byte         { return m.data }

// deadLetter reads the headers that giveUp wrote. Missing ones stay empty.
func deadLetter(m *jetstream.RawStreamMsg) DeadLetter {
	value := func(name string) string { return lastValue(m.Header, name) }
	consumer, sequence, _ := event.CutDeadLetter(m.Subject)
	l := DeadLetter{
		ID: consumer + "." + sequence, Consumer: consumer,
		Subject: value(subjectHeader), Stream: value(streamHeader), Reason: value(reasonHeader),
		Error: value(errorHeader), Span: value(spanHeader),
		Header: m.Header, Data: m.Data, position: m.Sequence,
	}
	l.Sequence, _ = strconv.ParseUint(value(sequenceHeader), 10, 64)
	l.Deliveries, _ = strconv.ParseUint(value(deliveriesHeader), 10, 64)
	l.Time, _ = time.Parse(time.RFC3339Nano, value(timeHeader))
	return l
}

// failure links the span that failed, for a message that was sent again.
func (c *Client) failure(m jetstream.Msg) trace.Link {
	return c.tracing.Link(nats.Header{"traceparent": {lastValue(m.Headers(), spanHeader)}},
		append(OrderID(m), tracing.RelationshipKey.String("redrive_of"))...)
}

// oneLine returns an error's text as one line of at most limit bytes, fit for a header.
func oneLine(err error, limit int) string {
	s := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}
