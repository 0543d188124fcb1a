package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// maxAnswer bounds the messages of one answer; an order has 14 at most.
const maxAnswer = 32

// OrderEvents returns an order's events of the given types (default: all), in stream
// order, from a replica that has applied at least the sequence upTo: that of an event
// of this order and of one of these types. With upTo 0 it returns what the first
// replica knows, which may be nothing.
//
// Any replica may answer, and one that lags would return the order without its
// newest events. But replicas apply messages in stream order, so a replica that has
// applied upTo returns everything before it. OrderEvents asks until one has.
//
// Messages that no service published in this form are left out and logged.
// OrderEvents fails only when ctx ends ([ErrUnavailable]) or the connection was closed.
func (c *Client) OrderEvents(ctx context.Context, id string, upTo uint64, types ...event.Type) ([]event.Event, error) {
	if len(types) == 0 {
		types = event.OfOrder
	}
	return c.LastEvents(ctx, upTo, subjects(id, types)...)
}

// subjects returns the subjects of an order's events of the given types. It has no
// wildcard: other messages about the order stay out.
func subjects(id string, types []event.Type) (subjects []string) {
	for _, t := range types {
		if s := t.Subject(id); !slices.Contains(subjects, s) {
			subjects = append(subjects, s)
		}
	}
	return subjects
}

// History returns e and the events of e's order of the given types: all that were
// stored before e and, if e is handled again, all that its earlier handlers stored.
// It fails as OrderEvents does.
func (c *Client) History(ctx context.Context, e event.Event, types ...event.Type) ([]event.Event, error) {
	upTo := e.Sequence
	if handledBefore(e) {
		// A replica that knows e may not know yet what an earlier handler of e stored last.
		last, err := c.LastSequence(ctx)
		if err != nil {
			return nil, err
		}
		upTo = max(upTo, last)
	}
	// An answer without a match has no position. Nearly always the order's first event
	// matches, and e, which the caller has, need not be sent again.
	others := slices.DeleteFunc(slices.Clone(types), func(t event.Type) bool { return t == e.Type })
	all := append(slices.Clip(others), e.Type)
	events, err := ask(ctx, func(ctx context.Context) ([]event.Event, error) {
		if slices.Contains(others, event.OrderCreated) {
			if events, err := c.lastEvents(ctx, upTo, subjects(e.Key, others)); err == nil {
				at, _ := slices.BinarySearchFunc(events, e.Sequence, func(other event.Event, sequence uint64) int { return cmp.Compare(other.Sequence, sequence) })
				return slices.Insert(events, at, e), nil
			}
		}
		return c.lastEvents(ctx, upTo, subjects(e.Key, all))
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", e.Subject, err)
	}
	return events, nil
}

// Stored reports whether an event of type t about e's order is stored at the time of the
// call. For the first delivery of e it asks the stream's leader, so it finds what an earlier
// handler of e stored, even if the server has forgotten in a crash that it delivered e
// before. Use it before effects that are harmful the second time. It fails as OrderEvents
// does.
func (c *Client) Stored(ctx context.Context, e event.Event, t event.Type) (stored bool, err error) {
	var events []event.Event
	if handledBefore(e) {
		// A leader that cannot read a message answers that there is none.
		events, err = c.History(ctx, e, t)
	} else if last, failed := c.lastOn(ctx, OrdersStream, t.Subject(e.Key)); failed != nil || last == 0 {
		return false, failed
	} else {
		events, err = c.OrderEvents(ctx, e.Key, last, t)
	}
	_, stored = event.Find(events, t)
	return stored, err
}

// handledBefore reports whether it is known that e was handled before.
func handledBefore(e event.Event) bool { return e.Delivery > 1 || e.Retry || e.Redriven }

// LastSequence asks the leader of ORDERS for the sequence of the last message. It
// fails as OrderEvents does.
func (c *Client) LastSequence(ctx context.Context) (uint64, error) {
	last, err := ask(ctx, func(ctx context.Context) (uint64, error) {
		return c.lasts.join(ctx, func() (uint64, error) {
			e, err := c.extent(ctx)
			return e.Last, err
		})
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the last sequence of %s: %w", OrdersStream, err)
	}
	return last, nil
}

// LastEvents returns the last event on each of the subjects, in stream order. See
// OrderEvents for upTo and the errors.
func (c *Client) LastEvents(ctx context.Context, upTo uint64, subjects ...string) ([]event.Event, error) {
	events, err := ask(ctx, func(ctx context.Context) ([]event.Event, error) { return c.lastEvents(ctx, upTo, subjects) })
	if err != nil {
		return nil, fmt.Errorf("read the events on %s: %w", strings.Join(subjects, ", "), err)
	}
	return events, nil
}

// lastEvents asks one replica for the last event on each of the subjects.
func (c *Client) lastEvents(ctx context.Context, upTo uint64, subjects []string) ([]event.Event, error) {
	messages, applied, err := c.directGet(ctx, map[string]any{"multi_last": subjects})
	if err != nil {
		return nil, err
	}
	if applied < upTo { // or nothing matches, as on a replica that lacks the event itself
		return nil, fmt.Errorf("the replica has applied %d of %d messages", applied, upTo)
	}
	var events []event.Event
	for _, m := range messages {
		if _, _, copied := event.CutRedrive(lastValue(m.Header, jetstream.SubjectHeader)); copied {
			continue
		}
		e, err := storedEvent(m)
		if errors.Is(err, event.ErrForeign) {
			c.log.WarnContext(ctx, "ignored a stored message", "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// lastOn asks the leader of a stream for the sequence of the last message on a subject,
// 0 if there is none. It fails as OrderEvents does.
func (c *Client) lastOn(ctx context.Context, stream, subject string) (uint64, error) {
	last, err := ask(ctx, func(ctx context.Context) (uint64, error) {
		return c.sequenceOf(ctx, stream, map[string]any{"last_by_subj": subject})
	})
	if err != nil {
		return 0, fmt.Errorf("ask %s for %s: %w", stream, subject, err)
	}
	return last, nil
}

// sequenceOf asks the leader of a stream for one message and returns its sequence, 0 if
// there is none.
func (c *Client) sequenceOf(ctx context.Context, stream string, request map[string]any) (uint64, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	m, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return 0, err
	}
	if answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return 0, missing("stream "+stream, answer.Error)
	}
	return answer.Message.Sequence, nil
}

// EventAt returns the event that is stored under a sequence. It asks until a replica
// has it, and fails as OrderEvents does, or with event.ErrForeign.
func (c *Client) EventAt(ctx context.Context, sequence uint64) (event.Event, error) {
	e, err := ask(ctx, func(ctx context.Context) (event.Event, error) {
		m, err := c.message(ctx, map[string]any{"seq": sequence})
		if err != nil {
			return event.Event{}, err
		}
		return storedEvent(m)
	})
	if err != nil {
		return event.Event{}, fmt.Errorf("read message %d of %s: %w", sequence, OrdersStream, err)
	}
	return e, nil
}

// message sends a direct get of one message. It returns jetstream.ErrMsgNotFound if
// the replica that answers does not have it.
func (c *Client) message(ctx context.Context, request map[string]any) (*nats.Msg, error) {
	messages, _, err := c.directGet(ctx, request)
	if err == nil && len(messages) == 0 {
		err = jetstream.ErrMsgNotFound
	}
	if err != nil {
		return nil, err
	}
	return messages[0], nil
}

// directGet sends one direct get to any replica. The answer is one message, or, to
// "multi_last", messages in ascending sequence and an end marker with the sequence
// that the replica has applied. applied is 0 if nothing matches.
//
// The client library's own functions are not used: they end without an error when an
// answer is cut short, and take a stored message that has no payload but a header
// named Status for the server's.
func (c *Client) directGet(ctx context.Context, request map[string]any) (messages []*nats.Msg, applied uint64, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, 0, err
	}
	reply, answers, done, err := c.answers.expect(c.nc)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+OrdersStream, reply, body); err != nil {
		return nil, 0, err
	}
	for {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case m := <-answers:
			// A publisher can store a header named Status; but the server adds the
			// sequence to stored messages only.
			stored, status := len(m.Header[jetstream.SequenceHeader]) > 0, m.Header.Get("Status")
			switch {
			case stored && len(messages) == maxAnswer:
				return nil, 0, fmt.Errorf("more than %d messages match", maxAnswer)
			case stored:
				if messages = append(messages, m); request["multi_last"] == nil {
					return messages, 0, nil
				}
			case status == "204":
				applied, err := strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
				return messages, applied, err
			case status == "404" && len(messages) == 0:
				return nil, 0, nil
			case status == "503":
				return nil, 0, nats.ErrNoResponders
			default:
				return nil, 0, fmt.Errorf("direct get failed: %s %s", status, m.Header.Get("Description"))
			}
		}
	}
}

// storedEvent converts the answer of a direct get: the stored headers, followed by
// the server's own. A publisher can store headers with the server's names, so only
// the last value of each is the server's.
func storedEvent(m *nats.Msg) (event.Event, error) {
	e, err := event.Check(lastValue(m.Header, jetstream.SubjectHeader), m.Header, m.Data)
	if err != nil {
		return e, err
	}
	if e.Sequence, err = strconv.ParseUint(lastValue(m.Header, jetstream.SequenceHeader), 10, 64); err != nil {
		return e, fmt.Errorf("sequence of stored %s: %w", e.Subject, err)
	}
	if e.Time, err = time.Parse(time.RFC3339Nano, lastValue(m.Header, jetstream.TimeStampHeaer)); err != nil {
		return e, fmt.Errorf("time of stored %s: %w", e.Subject, err)
	}
	return e, nil
}

func lastValue(h nats.Header, key string) string {
	values := h[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// answers receives the answers of all direct gets on one subscription: a subscription
// for each would cost several times the read itself.
type answers struct {
	sync.Mutex
	sub     *nats.Subscription
	inbox   string
	next    uint64
	pending map[string]chan *nats.Msg
}

// expect returns a reply subject, the channel that its messages come on, and a
// function that releases both.
func (a *answers) expect(nc *nats.Conn) (reply string, messages <-chan *nats.Msg, done func(), err error) {
	a.Lock()
	defer a.Unlock()
	if a.sub == nil {
		a.inbox = nc.NewInbox() + "."
		if a.sub, err = nc.Subscribe(a.inbox+"*", a.deliver); err != nil {
			return "", nil, nil, fmt.Errorf("subscribe for answers: %w", err)
		}
	}
	a.next++
	token := strconv.FormatUint(a.next, 36)
	ch := make(chan *nats.Msg, maxAnswer+2)
	a.pending[token] = ch
	return a.inbox + token, ch, func() {
		a.Lock()
		defer a.Unlock()
		delete(a.pending, token)
	}, nil
}

// deliver passes a message to the reader that expects it. It never blocks: the
// channel holds more than a valid answer, and an answer cut short has no end marker.
func (a *answers) deliver(m *nats.Msg) {
	a.Lock()
	ch := a.pending[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]]
	a.Unlock()
	select {
	case ch <- m: // ch is nil, and never ready, if the reader has left
	default:
	}
}
