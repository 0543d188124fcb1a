package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// idAt makes an order id with the creation time t.
func idAt(t time.Time) string {
	id := uuid.Must(uuid.NewV7())
	for i, ms := 5, t.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	return id.String()
}

// storedMessage is a message as Follow passes it on.
type storedMessage struct {
	jetstream.Msg // nil: its other methods are not called
	msg           *nats.Msg
	meta          jetstream.MsgMetadata
}

func (m storedMessage) Subject() string                           { return m.msg.Subject }
func (m storedMessage) Headers() nats.Header                      { return m.msg.Header }
func (m storedMessage) Data() []byte                              { return m.msg.Data }
func (m storedMessage) Metadata() (*jetstream.MsgMetadata, error) { return &m.meta, nil }

// history is a stream of events.
type history []jetstream.Msg

// add stores an event, with two sequences of other messages before it.
func (h *history) add(at time.Time, t event.Type, p event.Payload) {
	m, err := event.Draft{Type: t, Payload: p}.Message(at)
	if err != nil {
		panic(err)
	}
	*h = append(*h, storedMessage{msg: m, meta: jetstream.MsgMetadata{
		Sequence: jetstream.SequencePair{Stream: uint64(3*len(*h) + 1)}, Timestamp: at,
	}})
}

func (h *history) create(at time.Time) event.OrderKey {
	key := event.OrderKey{OrderID: idAt(at)}
	h.add(at, event.OrderCreated, event.Created{OrderKey: key, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}}})
	return key
}

func (h *history) conclude(at time.Time, t event.Type, key event.OrderKey, reason string, units int) {
	h.add(at, t, event.Conclusion{OrderKey: key, Reason: reason,
		Items: []event.Item{{SKU: "COMPASS", Quantity: units}}, Total: event.Money{Amount: 2490 * int64(units), Currency: "EUR"}})
}

func (h *history) refund(at time.Time, key event.OrderKey) {
	h.add(at, event.PaymentRefunded, event.Charge{OrderKey: key, Amount: event.Money{Amount: 2490, Currency: "EUR"}})
}

// day returns the events of n orders, one a second. Every third order is cancelled.
func day(n int) (h history) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		at := noon.Add(time.Duration(i) * time.Second)
		took := time.Duration(random.IntN(5000)) * time.Millisecond
		key := h.create(at)
		h.add(at.Add(took/2), event.NotifyReceived, event.MailSent{OrderKey: key})
		if i%3 == 0 {
			h.conclude(at.Add(took), event.FulfillmentCancelled, key, event.ReasonOutOfStock, 1)
			h.refund(at.Add(took), key)
		} else {
			h.conclude(at.Add(took), event.FulfillmentShipped, key, "", 1+i%4)
		}
	}
	return h
}

func fold(c checkpoint, h history) (next checkpoint, added int) {
	a := &analytics{Runtime: &service.Runtime{Log: slog.New(slog.DiscardHandler)}}
	return a.with(context.Background(), c, h)
}

// ReplayOn replays with a bucket of the test.
func ReplayOn(ctx context.Context, rt *service.Runtime, kv jetstream.KeyValue) (ReplayResult, error) {
	return (&analytics{Runtime: rt, patience: replayPatience}).replay(ctx, kv, 10)
}

func MustJSON(tb testing.TB, v any) string {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestFold(t *testing.T) {
	var h history
	first, second := h.create(noon), h.create(noon)
	h.add(noon.Add(time.Second), event.NotifyReceived, event.MailSent{OrderKey: first})
	h.conclude(noon.Add(2*time.Second), event.FulfillmentShipped, first, "", 3)
	h.create(noon.Add(time.Minute))
	h.conclude(noon.Add(61*time.Second), event.FulfillmentCancelled, second, event.ReasonOutOfStock, 1)
	h.refund(noon.Add(61*time.Second), second)
	got, _ := fold(newCheckpoint(), h)

	const numbers = `{"as_of_sequence":19,"orders":{"created":3,"shipped":1,"cancelled":1,"open":1},` +
		`"revenue":{"amount":7470,"currency":"EUR"},"refunds":{"amount":2490,"currency":"EUR"},` +
		`"units":{"COMPASS":3},"cancelled_because":{"out_of_stock":1},"mails":1,"per_minute":[` +
		`{"minute":"2026-01-02T12:00:00Z","created":2,"shipped":1,"cancelled":0,"revenue":7470},` +
		`{"minute":"2026-01-02T12:01:00Z","created":1,"shipped":0,"cancelled":1,"revenue":0}],`
	if got, want := MustJSON(t, got.report()), numbers+
		`"time_to_parcel_ms":{"p50":2000,"p90":2000,"p99":2000,"max":2000},`+
		`"time_to_conclusion_ms":{"p50":2048,"p90":61000,"p99":61000,"max":61000}}`; got != want {
		t.Errorf("report = %s\nwant %s", got, want)
	}
	// A --store directory of an earlier version has this form.
	stored := strings.NewReplacer("ZEROS88", strings.Repeat("0,", 88), "ZEROS39", strings.Repeat("0,", 39)).Replace(numbers +
		`"to_parcel":{"counts":[ZEROS881],"max_ms":2000},"to_conclusion":{"counts":[ZEROS881,ZEROS391],"max_ms":61000}}`)
	got.AsOfTime = time.Time{} // which it lacks
	if got := MustJSON(t, got); got != stored {
		t.Errorf("stored = %s\nwant %s", got, stored)
	}
}

// The same events in the same order give the same checkpoint, to the byte, also if
// it is stored and loaded anywhere in between. A fold does not change its base.
func TestFoldIsDeterministic(t *testing.T) {
	events := day(200)
	want, _ := fold(newCheckpoint(), events)
	random := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		c := newCheckpoint()
		for rest := events; len(rest) > 0; {
			n := 1 + random.IntN(len(rest))
			base := MustJSON(t, c)
			next, _ := fold(c, rest[:n])
			if got := MustJSON(t, c); got != base {
				t.Fatalf("a fold changed its base from %s to %s", base, got)
			}
			c, rest = checkpoint{}, rest[n:]
			if err := json.Unmarshal([]byte(MustJSON(t, next)), &c); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := MustJSON(t, c), MustJSON(t, want); got != want {
			t.Fatalf("stored in between: %s, want %s", got, want)
		}
	}
}

// An invalid event changes nothing but the sequence.
func TestFoldInvalid(t *testing.T) {
	var h history
	key := h.create(noon)
	base, _ := fold(newCheckpoint(), h)
	for _, typ := range []event.Type{event.OrderCreated, event.FulfillmentShipped, event.FulfillmentCancelled, event.PaymentRefunded} {
		for name, data := range map[string]string{
			"Empty": "", "Null": "null", "AnotherOrder": `{"order_id":"` + idAt(noon) + `","items":[{"sku":"A","quantity":1}]}`, "Zeros": "\x00\x00\x00",
		} {
			t.Run(fmt.Sprintf("%s/%s", typ, name), func(t *testing.T) {
				h := slices.Clone(h)
				h.add(noon, typ, event.MailSent{OrderKey: key})
				h[1].(storedMessage).msg.Data = []byte(data)
				got, added := fold(base, h)
				if added != 1 || got.AsOf != 4 {
					t.Errorf("%d added, up to %d, want 1, 4", added, got.AsOf)
				}
				got.AsOf = base.AsOf
				if got, want := MustJSON(t, got), MustJSON(t, base); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
	}
}

// A batch that another instance has stored in part is counted once, also if there are
// invalid messages in that part.
func TestFoldSkipsWhatIsStored(t *testing.T) {
	var batch history
	for range 6 {
		batch.create(noon)
	}
	for _, i := range []int{2, 5} {
		batch[i].(storedMessage).msg.Header.Del(event.HeaderID)
	}
	whole, added := fold(newCheckpoint(), batch)
	if whole.AsOf != 16 || whole.Orders.Created != 4 || added != 6 {
		t.Errorf("as of %d, %d orders, %d added, want 16, 4, 6", whole.AsOf, whole.Orders.Created, added)
	}
	for n := range batch {
		stored, _ := fold(newCheckpoint(), batch[:n])
		got, added := fold(stored, batch)
		if MustJSON(t, got) != MustJSON(t, whole) || added != len(batch)-n {
			t.Errorf("after %d stored messages: %s, %d added", n, MustJSON(t, got), added)
		}
	}
}

func TestMinutesAreBounded(t *testing.T) {
	c := newCheckpoint()
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	for i := range 1000 {
		c.minute(at(i)).Created++
	}
	if first := c.Minutes[0].Minute; len(c.Minutes) != minutesKept || !first.Equal(at(820)) {
		t.Errorf("%d minutes from %v, want %d from %v", len(c.Minutes), first, minutesKept, at(820))
	}
	c.minute(at(5)).Shipped++ // dropped
	c.minute(at(900).Add(59*time.Second)).Created++
	if got, want := c.Minutes[80].Created, int64(2); got != want {
		t.Errorf("a late event makes %d in its minute, want %d", got, want)
	}
	c.minute(at(5000)).Created++ // after a long pause
	c.minute(at(4000)).Created++ // late, in the gap
	if len(c.Minutes) != minutesKept || !slices.IsSortedFunc(c.Minutes, func(x, y Minute) int { return x.Minute.Compare(y.Minute) }) {
		t.Errorf("minutes = %v, want %d in order", c.Minutes, minutesKept)
	}
	for _, m := range c.Minutes {
		if m.Created == 0 || m.Shipped > 0 {
			t.Errorf("minute %+v", m)
		}
	}
}
