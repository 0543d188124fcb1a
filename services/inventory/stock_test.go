package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
)

// delivered is a stored message as a follower gets it.
type delivered struct {
	jetstream.Msg // the rest is not called
	msg           *nats.Msg
	sequence      uint64
}

func (d delivered) Subject() string      { return d.msg.Subject }
func (d delivered) Headers() nats.Header { return d.msg.Header }
func (d delivered) Data() []byte         { return d.msg.Data }
func (d delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: d.sequence}}, nil
}

// log is a stream of events, whose sequences are their places from 1.
type log []event.Draft

func (l *log) publish(d event.Draft) { *l = append(*l, d) }

func (l log) MustMsg(tb testing.TB, sequence int) jetstream.Msg {
	tb.Helper()
	m, err := l[sequence-1].Message(time.Time{})
	if err != nil {
		tb.Fatal(err)
	}
	return delivered{msg: m, sequence: uint64(sequence)}
}

func (l log) MustEvent(tb testing.TB, sequence int) event.Event {
	tb.Helper()
	m := l.MustMsg(tb, sequence)
	e, err := event.Check(m.Subject(), m.Headers(), m.Data())
	if err != nil {
		tb.Fatal(err)
	}
	e.Sequence = uint64(sequence)
	return e
}

// follow folds the log as a standby does that has just been elected, up to where
// its own lease message would come.
func (l log) follow(tb testing.TB) *stock {
	tb.Helper()
	elected := newTerm(newStock())
	for i := range l {
		if err := elected.next(context.Background(), l.MustMsg(tb, i+1)); err != nil {
			tb.Fatalf("fold %s: %v", l[i].Subject(), err)
		}
	}
	return elected.folded
}

// newTerm returns a term that has not read its lease message yet.
func newTerm(folded *stock) *term {
	never := &snapshots{every: math.MaxInt, now: func() time.Time { return time.Time{} }}
	return &term{Runtime: &service.Runtime{Log: slog.New(slog.DiscardHandler)}, folded: folded, snapshots: never, token: math.MaxUint64}
}

func id(n int) string { return fmt.Sprintf("019a0000-0000-7000-8000-%012d", n) }

func added(sku string, n int) event.Draft {
	return event.Draft{Type: event.StockAdded, Payload: event.Stock{SKU: sku, Quantity: n}}
}

func created(n int, items ...event.Item) event.Draft {
	return event.Draft{Type: event.OrderCreated, Payload: event.Created{OrderKey: event.OrderKey{OrderID: id(n)}, Items: items}}
}

func concluded(t event.Type, n int, items ...event.Item) event.Draft {
	return event.Draft{Type: t, Payload: event.Conclusion{OrderKey: event.OrderKey{OrderID: id(n)}, Items: items}}
}

func moved(t event.Type, n int, items ...event.Item) event.Draft {
	return event.Draft{Type: t, Payload: event.Reservation{OrderKey: event.OrderKey{OrderID: id(n)}, Items: items}}
}

func rejected(n int) event.Draft {
	return event.Draft{Type: event.InventoryRejected, Payload: event.Refused{OrderKey: event.OrderKey{OrderID: id(n)}, Reason: event.ReasonOutOfStock}}
}

func units(sku string, n int) event.Item { return event.Item{SKU: sku, Quantity: n} }

func TestSuffices(t *testing.T) {
	s := newStock()
	s.available = map[string]int{"A": 3, "B": 1, "NONE": 0}
	for _, tc := range []struct {
		name  string
		items []event.Item
		want  bool
	}{
		{"Some", []event.Item{units("A", 2)}, true},
		{"All", []event.Item{units("A", 3), units("B", 1)}, true},
		{"OneTooMany", []event.Item{units("A", 4)}, false},
		{"OneOfTwoTooMany", []event.Item{units("A", 1), units("B", 2)}, false},
		{"SameSKUTwice", []event.Item{units("A", 2), units("A", 2)}, false},
		{"SameSKUTwiceAndThere", []event.Item{units("A", 2), units("A", 1)}, true},
		{"SoldOut", []event.Item{units("NONE", 1)}, false},
		{"Unknown", []event.Item{units("C", 1)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := s.suffices(tc.items); got != tc.want {
				t.Errorf("suffices(%v) = %t, want %t", tc.items, got, tc.want)
			}
		})
	}
}

// What a writer has published comes by again on its stream: the second time
// changes nothing, whatever it is.
func TestApplyOwnEventsTwice(t *testing.T) {
	before := log{added("A", 5), created(1, units("A", 2)), created(2, units("A", 1))}
	for name, own := range map[string][]event.Draft{
		"Reserved": {moved(event.InventoryReserved, 1, units("A", 2))},
		"Rejected": {rejected(1)},
		"Released": {moved(event.InventoryReserved, 1, units("A", 2)), moved(event.InventoryReleased, 1, units("A", 2))},
	} {
		t.Run(name, func(t *testing.T) {
			events := append(slices.Clone(before), own...)
			once := events.follow(t)
			for i := len(before); i < len(events); i++ {
				if err := once.apply(events.MustEvent(t, i+1)); err != nil {
					t.Fatal(err)
				}
			}
			want := events.follow(t)
			if !maps.Equal(once.available, want.available) {
				t.Errorf("available = %v, want %v", once.available, want.available)
			}
			if got, want := slices.Sorted(maps.Keys(once.orders)), slices.Sorted(maps.Keys(want.orders)); !slices.Equal(got, want) {
				t.Errorf("orders = %v, want %v", got, want)
			}
		})
	}
}

// A replica that takes over decides what the log leaves open, in stream order,
// and nothing that is decided.
func TestUndecided(t *testing.T) {
	item := units("A", 1)
	reserve, release := moved(event.InventoryReserved, 1, item), moved(event.InventoryReleased, 1, item)
	cancel, ship := concluded(event.FulfillmentCancelled, 1, item), concluded(event.FulfillmentShipped, 1, item)
	for _, tc := range []struct {
		name string
		log  log
		want []string
	}{
		{"Nothing", log{}, nil},
		{"Created", log{created(1, item)}, []string{id(1)}},
		{"Reserved", log{created(1, item), reserve}, nil},
		{"Rejected", log{created(1, item), rejected(1)}, nil},
		{"Shipped", log{created(1, item), reserve, ship}, nil},
		{"Cancelled", log{created(1, item), cancel}, []string{id(1)}},
		{"RejectedCancelled", log{created(1, item), rejected(1), cancel}, nil},
		{"CancelledRejected", log{created(1, item), cancel, rejected(1)}, nil},
		{"ReservedCancelled", log{created(1, item), reserve, cancel}, []string{id(1)}},
		// The cancellation was stored while the reservation was under way.
		{"CancelledReserved", log{created(1, item), cancel, reserve}, []string{id(1)}},
		{"ReservedCancelledReleased", log{created(1, item), reserve, cancel, release}, nil},
		{"CancelledReservedReleased", log{created(1, item), cancel, reserve, release}, nil},
		{"InStreamOrder", log{created(2, item), created(1, item), created(3, item), rejected(1)}, []string{id(2), id(3)}},
		{"ByTheNewestQuestion", log{created(1, item), reserve, created(2, item), cancel, created(3, item)}, []string{id(2), id(1), id(3)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.log.follow(t).undecided(); !slices.Equal(got, tc.want) {
				t.Errorf("undecided = %v, want %v", got, tc.want)
			}
		})
	}
}

// A message that no service wrote changes nothing and does not stop the fold.
func TestFoldForeign(t *testing.T) {
	good := log{added("A", 2), created(1, units("A", 1))}
	want := good.follow(t)
	elected := newTerm(good.follow(t))
	for name, m := range map[string]*nats.Msg{
		"NoHeaders":        {Subject: event.StockAdded.Subject("A"), Data: []byte(`{"sku":"A","quantity":5}`)},
		"AnotherSKU":       forged(event.StockAdded.Subject("A"), `{"sku":"B","quantity":5}`),
		"TooMuchStock":     forged(event.StockAdded.Subject("A"), `{"sku":"A","quantity":9223372036854775807}`),
		"NegativeStock":    forged(event.StockAdded.Subject("A"), `{"sku":"A","quantity":-5}`),
		"OrderNull":        forged(event.OrderCreated.Subject(id(2)), `null`),
		"AnotherOrder":     forged(event.OrderCreated.Subject(id(2)), `{"order_id":"`+id(3)+`","items":[{"sku":"A","quantity":1}]}`),
		"NegativeQuantity": forged(event.OrderCreated.Subject(id(2)), `{"order_id":"`+id(2)+`","items":[{"sku":"A","quantity":-1}]}`),
		"Reserved":         forged(event.InventoryReserved.Subject(id(1)), `null`),
		"Released":         forged(event.InventoryReleased.Subject(id(1)), `{}`),
		"Rejected":         forged(event.InventoryRejected.Subject(id(1)), `\x00`),
		"Cancelled":        forged(event.FulfillmentCancelled.Subject(id(1)), `[]`),
		"Shipped":          forged(event.FulfillmentShipped.Subject(id(1)), `null`),
	} {
		t.Run(name, func(t *testing.T) {
			if err := elected.next(context.Background(), delivered{msg: m, sequence: 9}); err != nil {
				t.Errorf("next: %v, want nil", err)
			}
			if !maps.Equal(elected.folded.available, want.available) {
				t.Errorf("available = %v, want %v", elected.folded.available, want.available)
			}
			if got := elected.folded.undecided(); !slices.Equal(got, want.undecided()) {
				t.Errorf("undecided = %v, want %v", got, want.undecided())
			}
			if o := elected.folded.orders[id(1)]; o == nil || o.reserved || o.cancelled {
				t.Errorf("the order is %+v, want it open", o)
			}
			elected.folded = good.follow(t)
		})
	}
}

func forged(subject, data string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{event.HeaderID: {subject}}, Data: []byte(data)}
}
