package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// Bounds of one history read.
const (
	readTimeout = time.Second      // for one attempt; the caller's context bounds all of them
	staleWait   = time.Millisecond // before asking a replica that lags again, doubled up to staleMax
	staleMax    = 50 * time.Millisecond
	maxAnswer   = 32 // messages of one answer; an order has 14 at most
)

// Order returns an order's events of the types given (none: all there are), in
// stream order, as a replica knows them that has applied at least sequence upTo:
// that of an event of this order and of these types, or 0.
//
// Any replica may answer, and one that lags would show the order without its
// newest events. A replica applies messages in order, though, so one that has
// applied upTo shows everything that came before it; Order asks again until one
// does. With upTo 0 it takes what the first replica knows, which may be nothing.
//
// Messages that no service published as they stand are left out, with a warning
// in the log. Order fails only when ctx ends, with [ErrUnavailable] if it had the
// time to ask, or when the connection was closed for good.
func (c *Client) Order(ctx context.Context, id string, upTo uint64, types ...event.Type) ([]event.Event, error) {
	if len(types) == 0 {
		types = event.OfOrder
	}
	// By name, no wildcard: whatever else is stored about the order stays out.
	subjects := make([]string, len(types))
	for i, t := range types {
		subjects[i] = t.Subject(id)
	}
	return c.last(ctx, upTo, subjects...)
}

// History returns what a handler of e must know of e's order: e itself and its
// events of the types given, with all that came before e and, when e is handled
// once more, all that its earlier handlers have left behind.
//
// It fails only when ctx ends, with [ErrUnavailable] if it had the time to ask, or
// when the connection was closed for good.
func (c *Client) History(ctx context.Context, e event.Event, types ...event.Type) ([]event.Event, error) {
	if e.Delivery > 1 || e.Retry || e.Redriven {
		return c.Latest(ctx, e, types...)
	}
	return c.history(ctx, e, e.Sequence, types)
}

// Latest is History with all that was stored before the call, also if e was handled
// before and the server has forgotten it, as it may in a crash. It costs one more
// request, to the stream's leader: a replica that knows e may not know yet what an
// earlier handler of e published last. It is for effects that are harmful the
// second time.
func (c *Client) Latest(ctx context.Context, e event.Event, types ...event.Type) ([]event.Event, error) {
	last, err := c.lastSequence(ctx)
	if err != nil {
		return nil, err
	}
	return c.history(ctx, e, max(e.Sequence, last), types)
}

func (c *Client) history(ctx context.Context, e event.Event, upTo uint64, types []event.Type) ([]event.Event, error) {
	if !slices.Contains(types, e.Type) {
		types = append(slices.Clip(types), e.Type) // one match at least: see endOfAnswer
	}
	return c.Order(ctx, e.Key, upTo, types...)
}

// lastSequence asks the stream's leader how far the stream is.
func (c *Client) lastSequence(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("ask for the last sequence of %s: %w", OrdersStream, err)
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, readTimeout)
		s, err := c.js.Stream(attempt, OrdersStream)
		cancel()
		if err == nil {
			return s.CachedInfo().State.LastSeq, nil
		}
		if errors.Is(err, nats.ErrConnectionClosed) || pause(ctx, staleMax) != nil {
			return 0, fmt.Errorf("ask for the last sequence of %s: %w", OrdersStream, unavailable(err))
		}
	}
}

// last returns the last event on each subject that matches a filter; see Order.
func (c *Client) last(ctx context.Context, upTo uint64, filters ...string) ([]event.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read the events on %s: %w", strings.Join(filters, ", "), err)
	}
	for wait := staleWait; ; wait = min(2*wait, staleMax) {
		events, applied, err := c.readLast(ctx, filters)
		if err == nil && applied >= upTo {
			return events, nil
		}
		if err == nil {
			err = fmt.Errorf("the replica has applied %d of %d messages", applied, upTo)
		}
		if errors.Is(err, nats.ErrConnectionClosed) || pause(ctx, wait) != nil {
			return nil, fmt.Errorf("read the events on %s: %w", strings.Join(filters, ", "), unavailable(err))
		}
	}
}

// readLast is one batched direct get: the messages in ascending sequence, then
// an end marker that tells how far the answering replica is. An answer without
// its end marker is no answer.
func (c *Client) readLast(ctx context.Context, filters []string) (events []event.Event, applied uint64, err error) {
	request, err := json.Marshal(map[string][]string{"multi_last": filters})
	if err != nil {
		return nil, 0, err
	}
	reply, answers, done, err := c.expectAnswers()
	if err != nil {
		return nil, 0, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+OrdersStream, reply, request); err != nil {
		return nil, 0, err
	}
	for {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case m := <-answers:
			// Only what the server itself says has no subject header; a publisher
			// may well have stored a header named Status.
			if len(m.Header[jetstream.SubjectHeader]) == 0 {
				return c.endOfAnswer(m.Header, events)
			}
			if len(events) == maxAnswer {
				return nil, 0, fmt.Errorf("more than %d messages match", maxAnswer)
			}
			if _, _, again := event.CutRedrive(lastValue(m.Header, jetstream.SubjectHeader)); again {
				continue // a copy
			}
			e, err := storedEvent(m.Header, m.Data)
			if errors.Is(err, event.ErrForeign) {
				c.log.WarnContext(ctx, "ignored a stored message", "error", err)
				continue
			}
			if err != nil {
				return nil, 0, err
			}
			events = append(events, e)
		}
	}
}

// endOfAnswer reads the message that closes an answer.
func (c *Client) endOfAnswer(h nats.Header, events []event.Event) ([]event.Event, uint64, error) {
	switch status := h.Get("Status"); {
	case status == "204":
		applied, err := strconv.ParseUint(h.Get("Nats-UpTo-Sequence"), 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("end marker without a sequence: %w", err)
		}
		return events, applied, nil
	case status == "404" && len(events) == 0:
		// Nothing matches. It does not say up to where, so to who knows of a message
		// that does match, this replica lags.
		return nil, 0, nil
	case status == "503":
		return nil, 0, nats.ErrNoResponders
	default:
		return nil, 0, fmt.Errorf("direct get failed: %s %s", status, h.Get("Description"))
	}
}

// At returns the event stored under a sequence. It returns
// [jetstream.ErrMsgNotFound] if there is none (yet, on the replica that answers).
func (c *Client) At(ctx context.Context, sequence uint64) (event.Event, error) {
	m, err := c.get(ctx, map[string]any{"seq": sequence})
	if err != nil {
		return event.Event{}, fmt.Errorf("read message %d: %w", sequence, err)
	}
	return storedEvent(m.Header, m.Data)
}

// get is one direct get of a single message. The client library's own takes a
// message without a payload that has a header named Status for the server's word.
func (c *Client) get(ctx context.Context, request map[string]any) (*nats.Msg, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	m, err := c.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: "$JS.API.DIRECT.GET." + OrdersStream, Data: body})
	if err != nil {
		return nil, err
	}
	switch status := m.Header.Get("Status"); {
	case len(m.Header[jetstream.SubjectHeader]) > 0:
		return m, nil
	case status == "404":
		return nil, jetstream.ErrMsgNotFound
	default:
		return nil, fmt.Errorf("%s %s", status, m.Header.Get("Description"))
	}
}

// storedEvent reads a message as a direct get returns it: the stored headers
// with the server's own behind them. A publisher can store headers of the
// server's names too, hence the last value of each is the one to believe.
func storedEvent(h nats.Header, data []byte) (event.Event, error) {
	e, err := event.Check(lastValue(h, jetstream.SubjectHeader), h, data)
	if err != nil {
		return e, err
	}
	if e.Sequence, err = strconv.ParseUint(lastValue(h, jetstream.SequenceHeader), 10, 64); err != nil {
		return e, fmt.Errorf("sequence of stored %s: %w", e.Subject, err)
	}
	if e.Time, err = time.Parse(time.RFC3339Nano, lastValue(h, jetstream.TimeStampHeaer)); err != nil {
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

// expectAnswers makes a reply subject, the channel its messages come on, and a
// function that gives both back.
func (c *Client) expectAnswers() (reply string, answers <-chan *nats.Msg, done func(), err error) {
	a := &c.answers
	a.Lock()
	defer a.Unlock()
	if a.sub == nil {
		a.inbox = c.nc.NewInbox() + "."
		if a.sub, err = c.nc.Subscribe(a.inbox+"*", c.answer); err != nil {
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

// answer hands a message to whoever asked. It never blocks: the channel holds
// more than a valid answer, and an answer cut short has no end marker.
func (c *Client) answer(m *nats.Msg) {
	a := &c.answers
	a.Lock()
	ch := a.pending[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]]
	a.Unlock()
	if ch == nil {
		return // came after its reader had left
	}
	select {
	case ch <- m:
	default:
	}
}
