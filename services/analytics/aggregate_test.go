package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// idAt makes the order id that is made at t.
func idAt(t time.Time) string {
	id := uuid.Must(uuid.NewV7())
	for i, ms := 5, t.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	return id.String()
}

// delivered is a stored message as a follower gets it.
type delivered struct {
	jetstream.Msg // the rest is not called
	msg           *nats.Msg
	sequence      uint64
	stored        time.Time
}

func (d delivered) Subject() string      { return d.msg.Subject }
func (d delivered) Headers() nats.Header { return d.msg.Header }
func (d delivered) Data() []byte         { return d.msg.Data }
func (d delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: d.sequence}, Timestamp: d.stored}, nil
}

func MustMsg(tb testing.TB, sequence uint64, at time.Time, d event.Draft) delivered {
	tb.Helper()
	m, err := d.Message(at)
	if err != nil {
		tb.Fatal(err)
	}
	return delivered{msg: m, sequence: sequence, stored: at}
}

func MustEvent(tb testing.TB, sequence uint64, at time.Time, d event.Draft) event.Event {
	tb.Helper()
	m := MustMsg(tb, sequence, at, d)
	e, err := event.Check(m.Subject(), m.Headers(), m.Data())
	if err != nil {
		tb.Fatal(err)
	}
	e.Sequence, e.Time = sequence, at
	return e
}

func created(id string) event.Draft {
	return event.Draft{Type: event.OrderCreated, Payload: event.Created{
		OrderKey: event.OrderKey{OrderID: id}, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}},
	}}
}

func concluded(t event.Type, id, reason string, units int) event.Draft {
	return event.Draft{Type: t, Payload: event.Conclusion{
		OrderKey: event.OrderKey{OrderID: id}, Reason: reason,
		Items: []event.Item{{SKU: "COMPASS", Quantity: units}},
		Total: event.Money{Amount: 2490 * int64(units), Currency: "EUR"},
	}}
}

func refunded(id string, amount int64) event.Draft {
	return event.Draft{Type: event.PaymentRefunded, Payload: event.Charge{
		OrderKey: event.OrderKey{OrderID: id}, Amount: event.Money{Amount: amount, Currency: "EUR"},
	}}
}

func mailed(id string) event.Draft {
	return event.Draft{Type: event.NotifyReceived, Payload: event.MailSent{OrderKey: event.OrderKey{OrderID: id}}}
}

// day is a stream of n orders, a second apart, of which every third is cancelled.
func day(tb testing.TB, n int) []event.Event {
	tb.Helper()
	var events []event.Event
	add := func(at time.Time, d event.Draft) {
		events = append(events, MustEvent(tb, uint64(3*len(events)+1), at, d))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		at := noon.Add(time.Duration(i) * time.Second)
		id, took := idAt(at), time.Duration(random.IntN(5000))*time.Millisecond
		add(at, created(id))
		add(at.Add(took/2), mailed(id))
		if i%3 == 0 {
			add(at.Add(took), concluded(event.FulfillmentCancelled, id, event.ReasonOutOfStock, 1))
			add(at.Add(took), refunded(id, 2490))
		} else {
			add(at.Add(took), concluded(event.FulfillmentShipped, id, "", 1+i%4))
		}
	}
	return events
}

func MustFold(tb testing.TB, a Aggregate, events []event.Event) Aggregate {
	tb.Helper()
	for _, e := range events {
		if err := a.add(e); err != nil {
			tb.Fatalf("add %s: %v", e.Subject, err)
		}
		a.AsOf = e.Sequence
	}
	return a
}

func MustJSON(tb testing.TB, v any) string {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// keep stores an aggregate and loads it again.
func keep(tb testing.TB, a Aggregate) Aggregate {
	tb.Helper()
	var s stored
	if err := json.Unmarshal([]byte(MustJSON(tb, stored{a, a.ToParcel, a.ToConclusion})), &s); err != nil {
		tb.Fatal(err)
	}
	s.Aggregate.ToParcel, s.Aggregate.ToConclusion = s.ToParcel, s.ToConclusion
	return s.Aggregate
}

func TestAdd(t *testing.T) {
	first, second, third := idAt(noon), idAt(noon), idAt(noon.Add(time.Minute))
	got := MustFold(t, newAggregate(), []event.Event{
		MustEvent(t, 1, noon, created(first)),
		MustEvent(t, 2, noon, created(second)),
		MustEvent(t, 3, noon.Add(time.Second), mailed(first)),
		MustEvent(t, 4, noon.Add(2*time.Second), concluded(event.FulfillmentShipped, first, "", 3)),
		MustEvent(t, 5, noon.Add(time.Minute), created(third)),
		MustEvent(t, 6, noon.Add(61*time.Second), concluded(event.FulfillmentCancelled, second, event.ReasonOutOfStock, 1)),
		MustEvent(t, 7, noon.Add(61*time.Second), refunded(second, 2490)),
	}).report()
	if want := (Orders{Created: 3, Shipped: 1, Cancelled: 1, Open: 1}); got.Orders != want {
		t.Errorf("orders = %+v, want %+v", got.Orders, want)
	}
	if want := (event.Money{Amount: 7470, Currency: "EUR"}); got.Revenue != want {
		t.Errorf("revenue = %+v, want %+v", got.Revenue, want)
	}
	if want := (event.Money{Amount: 2490, Currency: "EUR"}); got.Refunds != want {
		t.Errorf("refunds = %+v, want %+v", got.Refunds, want)
	}
	if got, want := got.Units["COMPASS"], int64(3); got != want {
		t.Errorf("units = %d, want %d", got, want)
	}
	if got, want := got.Reasons[event.ReasonOutOfStock], int64(1); got != want {
		t.Errorf("out of stock = %d, want %d", got, want)
	}
	if got, want := got.Mails, int64(1); got != want {
		t.Errorf("mails = %d, want %d", got, want)
	}
	if want := []Minute{
		{Minute: noon, Created: 2, Shipped: 1, Revenue: 7470},
		{Minute: noon.Add(time.Minute), Created: 1, Cancelled: 1},
	}; !slices.Equal(got.Minutes, want) {
		t.Errorf("minutes = %+v, want %+v", got.Minutes, want)
	}
	if got, want := got.ToParcel.P50, 2000.0; math.Abs(got-want) > want/10 {
		t.Errorf("half of the parcels took %v ms, want about %v", got, want)
	}
	if got, want := got.ToConclusion.Max, int64(61000); got != want {
		t.Errorf("the longest took %d ms, want %d", got, want)
	}
}

// The same events in the same order give the same aggregate to the byte, also when
// it is stored and loaded anywhere in between.
func TestFoldIsDeterministic(t *testing.T) {
	events := day(t, 200)
	whole := MustFold(t, newAggregate(), events)
	want, shown := MustJSON(t, stored{whole, whole.ToParcel, whole.ToConclusion}), MustJSON(t, whole.report())
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		a, rest := newAggregate(), events
		for len(rest) > 0 {
			n := 1 + random.IntN(len(rest))
			a, rest = keep(t, MustFold(t, a.clone(), rest[:n])), rest[n:]
		}
		if got := MustJSON(t, stored{a, a.ToParcel, a.ToConclusion}); got != want {
			t.Fatalf("stored in between: %s, want %s", got, want)
		}
		if got := MustJSON(t, a.report()); got != shown {
			t.Fatalf("shown: %s, want %s", got, shown)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	events := day(t, 6)
	a := MustFold(t, newAggregate(), events)
	before := MustJSON(t, stored{a, a.ToParcel, a.ToConclusion})
	MustFold(t, a.clone(), day(t, 50))
	if got := MustJSON(t, stored{a, a.ToParcel, a.ToConclusion}); got != before {
		t.Errorf("folding into a clone changed the original: %s, want %s", got, before)
	}
}

// An event that no service wrote changes nothing at all.
func TestAddForeign(t *testing.T) {
	id := idAt(noon)
	base := MustFold(t, newAggregate(), []event.Event{MustEvent(t, 1, noon, created(id))})
	want := MustJSON(t, base.report())
	for _, typ := range []event.Type{
		event.OrderCreated, event.FulfillmentShipped, event.FulfillmentCancelled, event.PaymentRefunded,
	} {
		for name, data := range map[string]string{
			"Empty": "", "Null": "null", "AnotherOrder": `{"order_id":"` + idAt(noon) + `","items":[{"sku":"A","quantity":1}]}`, "Zeros": "\x00\x00\x00",
		} {
			t.Run(fmt.Sprintf("%s/%s", typ, name), func(t *testing.T) {
				a := base.clone()
				err := a.add(event.Event{Type: typ, Key: id, Subject: typ.Subject(id), Sequence: 2, Time: noon, Data: []byte(data)})
				if err == nil {
					t.Error("add = nil, want an error")
				}
				if got := MustJSON(t, a.report()); got != want {
					t.Errorf("add made %s, want %s", got, want)
				}
			})
		}
	}
}

func TestMinutesAreBounded(t *testing.T) {
	var a Aggregate
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	for i := range 1000 {
		a.minute(at(i), func(m *Minute) { m.Created++ })
		if len(a.Minutes) > minutesKept {
			t.Fatalf("%d minutes are kept, want %d at most", len(a.Minutes), minutesKept)
		}
	}
	if got, want := len(a.Minutes), minutesKept; got != want {
		t.Errorf("%d minutes are kept, want %d", got, want)
	}
	if got, want := a.Minutes[0].Minute, at(820); !got.Equal(want) {
		t.Errorf("the oldest is %v, want %v", got, want)
	}
	a.minute(at(5), func(*Minute) { t.Error("a minute that has left the window came back") })
	a.minute(at(900).Add(59*time.Second), func(m *Minute) { m.Created++ })
	if got, want := a.Minutes[80].Created, int64(2); got != want {
		t.Errorf("a late event makes %d in its minute, want %d", got, want)
	}
	a.minute(at(5000), func(m *Minute) { m.Created++ }) // after a long pause
	a.minute(at(4000), func(m *Minute) { m.Shipped++ }) // late, into the gap
	if got, want := len(a.Minutes), minutesKept; got != want {
		t.Errorf("%d minutes are kept, want %d", got, want)
	}
	if !slices.IsSortedFunc(a.Minutes, func(x, y Minute) int { return x.Minute.Compare(y.Minute) }) {
		t.Error("the minutes are out of order")
	}
}

func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for name, sample := range map[string]func() time.Duration{
		"Uniform": func() time.Duration { return time.Millisecond + time.Duration(random.Int64N(int64(10*time.Second))) },
		"Exponential": func() time.Duration {
			return time.Millisecond + time.Duration(random.ExpFloat64()*float64(time.Second))
		},
		"Constant": func() time.Duration { return 137 * time.Millisecond },
		"Two":      func() time.Duration { return []time.Duration{3 * time.Millisecond, time.Hour}[random.IntN(2)] },
	} {
		t.Run(name, func(t *testing.T) {
			var h Histogram
			var all []time.Duration
			for range 5000 {
				d := sample()
				h.record(d)
				all = append(all, d)
			}
			slices.Sort(all)
			for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
				truth := float64(all[int(math.Ceil(q*float64(len(all))))-1]) / float64(time.Millisecond)
				if got := h.quantile(q); math.Abs(got-truth) > truth/10+0.1 {
					t.Errorf("quantile %v = %v ms, want %v within 10 %%", q, got, truth)
				}
			}
			if got, want := h.Max, int64(math.Ceil(float64(all[len(all)-1])/float64(time.Millisecond))); got != want {
				t.Errorf("max = %d ms, want %d", got, want)
			}
		})
	}
}

// Whatever is recorded, a histogram stays small.
func TestHistogramIsBounded(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{math.MinInt64, -time.Second, 0, 1, time.Millisecond, time.Hour, math.MaxInt64} {
		h.record(d)
	}
	if got, most := len(h.Counts), 8*45; got > most {
		t.Errorf("%d buckets, want %d at most", got, most)
	}
	if h.Max < 0 {
		t.Errorf("max = %d ms, want none below 0", h.Max)
	}
	var none Histogram
	if got := none.quantiles(); got != (Quantiles{}) {
		t.Errorf("quantiles of nothing = %+v, want zeros", got)
	}
}

// An aggregate that is stored beyond a part of a batch takes in the rest alone,
// also when there are foreign messages in that part.
func TestWithSkipsWhatIsRecorded(t *testing.T) {
	a := &analytics{Runtime: &service.Runtime{Log: slog.New(slog.DiscardHandler)}}
	a.current = newAggregate()
	var batch []jetstream.Msg
	for i := range uint64(6) {
		m := MustMsg(t, 10+i, noon, created(idAt(noon)))
		if i == 2 || i == 5 {
			m.msg.Header.Del(event.HeaderID)
		}
		batch = append(batch, m)
	}
	whole, recorded := a.with(context.Background(), batch)
	if whole.AsOf != 15 || whole.Orders.Created != 4 || recorded != 6 {
		t.Errorf("as of %d, %d orders, %d recorded, want 15, 4, 6", whole.AsOf, whole.Orders.Created, recorded)
	}
	for n := range batch {
		a.current = newAggregate()
		a.current, _ = a.with(context.Background(), batch[:n]) // what another instance has stored
		got, recorded := a.with(context.Background(), batch)
		if got.AsOf != whole.AsOf || got.Orders != whole.Orders {
			t.Errorf("after %d messages elsewhere: as of %d, %+v, want %d, %+v", n, got.AsOf, got.Orders, whole.AsOf, whole.Orders)
		}
		if want := len(batch) - n; recorded != want {
			t.Errorf("after %d messages elsewhere: %d recorded, want %d", n, recorded, want)
		}
	}
}
