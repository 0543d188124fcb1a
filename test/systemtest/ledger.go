package systemtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// Ledger is the content of the stream ORDERS: the events of each order, in stream
// order, without foreign messages.
type Ledger struct {
	Orders map[string][]event.Event
	Stock  []event.Event // stock.added and stock.lease
	Last   uint64        // sequence
	done   func([]event.Event) error
}

// Events counts the events of all orders.
func (l Ledger) Events() (n int) {
	for _, events := range l.Orders {
		n += len(events)
	}
	return n
}

// Count counts the orders that have an event of this type.
func (l Ledger) Count(of event.Type) (n int) {
	for _, events := range l.Orders {
		if _, ok := event.Find(events, of); ok {
			n++
		}
	}
	return n
}

// LastOfOrder returns the sequence of the last event of any order.
func (l Ledger) LastOfOrder() (last uint64) {
	for _, events := range l.Orders {
		for _, e := range events {
			last = max(last, e.Sequence)
		}
	}
	return last
}

// Read reads the stream as it is now.
func Read(t testing.TB, js jetstream.JetStream) Ledger {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	l := Ledger{Orders: map[string][]event.Event{}, done: Closed}
	var consumer jetstream.Consumer
	Until(t, "the stream can be read", func() bool {
		// A leader that steps down may never answer.
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream.OrdersStream)
		if err != nil {
			return false
		}
		l.Last = s.CachedInfo().State.LastSeq
		consumer, err = js.OrderedConsumer(ctx, stream.OrdersStream, jetstream.OrderedConsumerConfig{InactiveThreshold: 5 * time.Second})
		return err == nil
	})
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatalf("read the stream: %v", err)
	}
	defer messages.Stop()
	for at := uint64(0); at < l.Last; {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("read the stream, at %d of %d: %v", at, l.Last, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		at = meta.Sequence.Stream
		e, err := stream.EventOf(m)
		switch {
		case err != nil:
		case e.Type.Domain() == "stock":
			l.Stock = append(l.Stock, e)
		default:
			l.Orders[e.Key] = append(l.Orders[e.Key], e)
		}
	}
	return l
}

// Quiet is the state in which nothing is left to do: each of at least Orders orders
// is done, and the consumers have acknowledged every message.
type Quiet struct {
	Orders    int
	Consumers []stream.Durable          // nil: all of the application's
	Done      func([]event.Event) error // why an order is not done; nil: Closed
	Operator  *stream.Client            // if set, it re-drives dead letters until none is left
	Patience  time.Duration             // 0: Patience
}

// Settle waits until every order is concluded and closed, and every consumer is
// done.
func Settle(t testing.TB, js jetstream.JetStream, orders int) Ledger {
	t.Helper()
	return Quiet{Orders: orders}.Await(t, js)
}

// Await waits for the quiet, and returns the stream as it is then. It fails the test
// when the patience is over.
func (q Quiet) Await(t testing.TB, js jetstream.JetStream) Ledger {
	t.Helper()
	if q.Consumers == nil {
		q.Consumers = app.Durables()
	}
	if q.Done == nil {
		q.Done = Closed
	}
	if q.Patience == 0 {
		q.Patience = Patience
	}
	ledger := Ledger{Last: 0}
	for deadline := time.Now().Add(q.Patience); ; <-time.After(20 * time.Millisecond) {
		err := q.pending(t, js, &ledger)
		if err == nil {
			ledger.done = q.Done
			return ledger
		}
		if time.Now().After(deadline) {
			t.Fatalf("not quiet after %v: %v", q.Patience, err)
		}
	}
}

// pending returns what is left to do. It reads the stream again only if it grew.
func (q Quiet) pending(t testing.TB, js jetstream.JetStream, ledger *Ledger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if q.Operator != nil {
		if n, err := Redrive(ctx, q.Operator); err != nil || n > 0 {
			return fmt.Errorf("%d dead letters (%v)", n, err)
		}
	}
	if err := Drained(ctx, js, q.Consumers); err != nil {
		return err
	}
	s, err := js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		return err
	}
	if s.CachedInfo().State.LastSeq != ledger.Last || ledger.Orders == nil {
		*ledger = Read(t, js)
	}
	for id, events := range ledger.Orders {
		if err := q.Done(events); err != nil {
			return fmt.Errorf("order %s %w\n%s", id, err, story(events))
		}
	}
	if n := len(ledger.Orders); n < q.Orders {
		return fmt.Errorf("%d orders of %d", n, q.Orders)
	}
	return Drained(ctx, js, q.Consumers)
}

// Redrive sends all dead letters again, and returns how many there were.
func Redrive(ctx context.Context, operator *stream.Client) (int, error) {
	letters, err := operator.DeadLetters(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range letters {
		if err := operator.Redrive(ctx, l.ID); err != nil {
			return len(letters), err
		}
	}
	return len(letters), nil
}

// Drained returns an error if a consumer has messages to deliver, or deliveries that are
// not acknowledged.
func Drained(ctx context.Context, js jetstream.JetStream, consumers []stream.Durable) error {
	for _, d := range consumers {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		c, err := js.Consumer(ctx, d.Stream, d.Name)
		cancel()
		if err != nil {
			return fmt.Errorf("consumer %s: %w", d.Name, err) // a leader is being elected
		}
		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return fmt.Errorf("consumer %s has %d messages pending and %d unacknowledged", d.Name, info.NumPending, info.NumAckPending)
		}
	}
	return nil
}

// Concluded returns an error if an order is neither shipped nor cancelled.
func Concluded(events []event.Event) error {
	_, shipped := event.Find(events, event.FulfillmentShipped)
	_, cancelled := event.Find(events, event.FulfillmentCancelled)
	if !shipped && !cancelled {
		return errors.New("is not concluded")
	}
	return nil
}

// Letters names the mail that each event calls for.
var Letters = map[event.Type]event.Type{
	event.OrderCreated:         event.NotifyReceived,
	event.FulfillmentShipped:   event.NotifyShipped,
	event.FulfillmentCancelled: event.NotifyCancelled,
	event.PaymentRefunded:      event.NotifyRefunded,
}

// Closed returns an error if an order is not concluded, if its payment or its
// reservation is open although it is cancelled, or if it lacks a mail.
func Closed(events []event.Event) error {
	if err := Concluded(events); err != nil {
		return err
	}
	has := map[event.Type]bool{}
	for _, e := range events {
		has[e.Type] = true
	}
	for cause, fact := range Letters {
		if has[cause] && !has[fact] {
			return fmt.Errorf("lacks %s", fact)
		}
	}
	switch {
	case has[event.FulfillmentShipped]:
		return nil
	case !has[event.PaymentDeclined] && !has[event.PaymentRefunded]:
		return errors.New("is cancelled, and its payment is open")
	case !has[event.InventoryRejected] && !has[event.InventoryReleased]:
		return errors.New("is cancelled, and its reservation is open")
	}
	return nil
}

// story lists an order's events, a line each.
func story(events []event.Event) string {
	var s strings.Builder
	for _, e := range events {
		fmt.Fprintf(&s, "  %6d %s %s\n", e.Sequence, e.Time.Format(time.StampMilli), e.Type)
	}
	return s.String()
}
