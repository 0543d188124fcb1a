package analytics

import (
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.org/ordertrail/internal/event"
)

// minutesKept bounds the history per minute: the newest ones, by event time.
const minutesKept = 180

// Aggregate is everything that analytics knows, and the sequence of ORDERS up to
// which it is good. It is bounded, however many orders there are.
type Aggregate struct {
	AsOf    uint64           `json:"as_of_sequence"`
	Orders  Orders           `json:"orders"`
	Revenue event.Money      `json:"revenue"` // of what was shipped
	Refunds event.Money      `json:"refunds"` // money given back
	Units   map[string]int64 `json:"units"`   // shipped, per SKU
	Reasons map[string]int64 `json:"cancelled_because"`
	Mails   int64            `json:"mails"`

	ToParcel     Histogram `json:"-"` // created to shipped
	ToConclusion Histogram `json:"-"` // created to shipped or cancelled

	Minutes []Minute `json:"per_minute"` // oldest first
}

// Orders counts orders by what became of them.
type Orders struct {
	Created   int64 `json:"created"` // all that were placed
	Shipped   int64 `json:"shipped"`
	Cancelled int64 `json:"cancelled"`
	Open      int64 `json:"open"` // placed, and neither shipped nor cancelled yet
}

// Minute is one minute's share.
type Minute struct {
	Minute    time.Time `json:"minute"` // its start, UTC
	Created   int64     `json:"created"`
	Shipped   int64     `json:"shipped"`
	Cancelled int64     `json:"cancelled"`
	Revenue   int64     `json:"revenue"` // minor units
}

// add folds one event in. The same events in the same order always give the same
// aggregate. An event that cannot be read changes nothing and is reported.
func (a *Aggregate) add(e event.Event) error {
	switch e.Type {
	case event.OrderCreated:
		if _, err := event.Decode[event.Created](e); err != nil {
			return err
		}
		a.Orders.Created++
		a.Orders.Open++
		a.minute(e.Time, func(m *Minute) { m.Created++ })
	case event.FulfillmentShipped:
		c, err := event.Decode[event.Conclusion](e)
		if err != nil {
			return err
		}
		a.Orders.Shipped++
		a.Orders.Open--
		a.Revenue = plus(a.Revenue, c.Total)
		for _, i := range c.Items {
			if a.Units == nil {
				a.Units = map[string]int64{}
			}
			a.Units[i.SKU] += int64(i.Quantity)
		}
		took := sinceCreation(e)
		a.ToParcel.record(took)
		a.ToConclusion.record(took)
		a.minute(e.Time, func(m *Minute) { m.Shipped++; m.Revenue += c.Total.Amount })
	case event.FulfillmentCancelled:
		c, err := event.Decode[event.Conclusion](e)
		if err != nil {
			return err
		}
		a.Orders.Cancelled++
		a.Orders.Open--
		if a.Reasons == nil {
			a.Reasons = map[string]int64{}
		}
		a.Reasons[c.Reason]++
		a.ToConclusion.record(sinceCreation(e))
		a.minute(e.Time, func(m *Minute) { m.Cancelled++ })
	case event.PaymentRefunded:
		c, err := event.Decode[event.Charge](e)
		if err != nil {
			return err
		}
		a.Refunds = plus(a.Refunds, c.Amount)
	case event.NotifyReceived, event.NotifyShipped, event.NotifyCancelled, event.NotifyRefunded:
		a.Mails++
	}
	return nil
}

func plus(sum, m event.Money) event.Money {
	return event.Money{Amount: sum.Amount + m.Amount, Currency: m.Currency}
}

// minute changes the entry for the minute of at, unless that has left the window.
func (a *Aggregate) minute(at time.Time, change func(*Minute)) {
	start := at.UTC().Truncate(time.Minute)
	i, found := slices.BinarySearchFunc(a.Minutes, start, func(m Minute, t time.Time) int { return m.Minute.Compare(t) })
	if !found {
		if i == 0 && len(a.Minutes) == minutesKept {
			return
		}
		a.Minutes = slices.Insert(a.Minutes, i, Minute{Minute: start})
	}
	change(&a.Minutes[i])
	if extra := len(a.Minutes) - minutesKept; extra > 0 {
		a.Minutes = slices.Delete(a.Minutes, 0, extra)
	}
}

// sinceCreation is the age of the event's order when the event was stored: a
// UUIDv7 holds when it was made (RFC 9562, section 5.7), to the millisecond.
func sinceCreation(e event.Event) time.Duration {
	id, err := uuid.Parse(e.Key)
	if err != nil {
		return 0
	}
	sec, nsec := id.Time().UnixTime()
	return max(e.Time.Sub(time.Unix(sec, nsec)), 0)
}

// Histogram counts durations in buckets that grow by a factor of 2^(1/8), from
// 1 ms up: a quantile is within 9 % of the truth, in a few hundred bytes.
type Histogram struct {
	Counts []int64 `json:"counts,omitempty"` // bucket i ends at 2^(i/8) ms
	Max    int64   `json:"max_ms"`
}

const bucketsPerDoubling = 8

func (h *Histogram) record(d time.Duration) {
	ms := float64(d) / float64(time.Millisecond)
	i := 0
	if ms > 1 {
		i = int(math.Ceil(bucketsPerDoubling * math.Log2(ms)))
	}
	if i >= len(h.Counts) {
		h.Counts = append(h.Counts, make([]int64, i+1-len(h.Counts))...)
	}
	h.Counts[i]++
	h.Max = max(h.Max, int64(math.Ceil(ms)))
}

// quantile returns the upper end, in ms, of the bucket that holds the q-th of all
// durations; 0 if there are none.
func (h *Histogram) quantile(q float64) float64 {
	total := int64(0)
	for _, n := range h.Counts {
		total += n
	}
	rank := int64(math.Ceil(q * float64(total)))
	for i, n := range h.Counts {
		if rank -= n; rank <= 0 && n > 0 {
			end := math.Exp2(float64(i) / bucketsPerDoubling)
			return math.Round(min(end, float64(h.Max))*10) / 10
		}
	}
	return 0
}

// Quantiles is how a Histogram is shown, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max int64   `json:"max"`
}

func (h *Histogram) quantiles() Quantiles {
	return Quantiles{h.quantile(0.5), h.quantile(0.9), h.quantile(0.99), h.Max}
}
