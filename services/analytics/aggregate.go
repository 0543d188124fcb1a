package analytics

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/histogram"
	"example.org/ordertrail/internal/stream"
)

// minutesKept limits the history per minute. The oldest minutes are dropped first.
const minutesKept = 180

// Aggregate has the numbers that are both stored and shown.
type Aggregate struct {
	AsOf    uint64           `json:"as_of_sequence"` // of the last event in the numbers
	Orders  Orders           `json:"orders"`
	Revenue event.Money      `json:"revenue"` // of the shipped orders
	Refunds event.Money      `json:"refunds"`
	Units   map[string]int64 `json:"units"` // shipped, per SKU
	Reasons map[string]int64 `json:"cancelled_because"`
	Mails   int64            `json:"mails"`
	Minutes []Minute         `json:"per_minute"` // oldest first
}

// Orders counts orders by state.
type Orders struct {
	Created   int64 `json:"created"` // all orders
	Shipped   int64 `json:"shipped"`
	Cancelled int64 `json:"cancelled"`
	Open      int64 `json:"open"` // neither shipped nor cancelled yet
}

// Minute counts the events of one minute.
type Minute struct {
	Minute    time.Time `json:"minute"` // start of the minute, UTC
	Created   int64     `json:"created"`
	Shipped   int64     `json:"shipped"`
	Cancelled int64     `json:"cancelled"`
	Revenue   int64     `json:"revenue"` // minor units
}

// checkpoint is the result of folding all events up to its sequence, in the form
// that is stored. Its size does not grow with the number of orders.
type checkpoint struct {
	Aggregate
	ToParcel     histogram.Histogram `json:"to_parcel"`     // from created to shipped
	ToConclusion histogram.Histogram `json:"to_conclusion"` // from created to shipped or cancelled

	// Which stream AsOf is a sequence of, and when its message was stored. Sequences
	// repeat in a stream that was replaced.
	StreamCreated time.Time `json:"stream_created,omitzero"`
	AsOfTime      time.Time `json:"as_of_time,omitzero"`

	revision uint64 // of the stored value; 0 if nothing is stored
}

// position returns the position behind the last event in the numbers.
func (c checkpoint) position() stream.Position {
	return stream.Position{Created: c.StreamCreated, Sequence: c.AsOf, Time: c.AsOfTime}
}

func (c *checkpoint) moveTo(p stream.Position) {
	c.StreamCreated, c.AsOf, c.AsOfTime = p.Created, p.Sequence, p.Time
}

// report is the JSON of GET /analytics.
type report struct {
	Aggregate
	ToParcel     histogram.Quantiles `json:"time_to_parcel_ms"`
	ToConclusion histogram.Quantiles `json:"time_to_conclusion_ms"`
}

func (c checkpoint) report() report {
	return report{c.Aggregate, c.ToParcel.Quantiles(), c.ToConclusion.Quantiles()}
}

func newCheckpoint() checkpoint {
	var c checkpoint
	c.Revenue.Currency, c.Refunds.Currency = catalog.Currency, catalog.Currency
	return c.clone()
}

// clone returns a deep copy. No map or list of the copy is nil.
func (c checkpoint) clone() checkpoint {
	c.Units, c.Reasons = maps.Collect(maps.All(c.Units)), maps.Collect(maps.All(c.Reasons))
	c.Minutes = append([]Minute{}, c.Minutes...)
	c.ToParcel.Counts = slices.Clone(c.ToParcel.Counts)
	c.ToConclusion.Counts = slices.Clone(c.ToConclusion.Counts)
	return c
}

// add folds one event into c, which comes from clone. The same events in the same
// order always give the same numbers. An invalid event is an error and changes
// nothing.
func (c *checkpoint) add(e event.Event) error {
	switch e.Type {
	case event.OrderCreated:
		if _, err := event.Decode[event.Created](e); err != nil {
			return err
		}
		c.Orders.Created++
		c.Orders.Open++
		c.minute(e.Time).Created++
	case event.FulfillmentShipped, event.FulfillmentCancelled:
		end, err := event.Decode[event.Conclusion](e)
		if err != nil {
			return err
		}
		c.conclude(e, end)
	case event.PaymentRefunded:
		refund, err := event.Decode[event.Charge](e)
		if err != nil {
			return err
		}
		c.Refunds.Amount += refund.Amount.Amount
	case event.NotifyReceived, event.NotifyShipped, event.NotifyCancelled, event.NotifyRefunded:
		c.Mails++
	}
	return nil
}

func (c *checkpoint) conclude(e event.Event, end event.Conclusion) {
	// The order id is a UUIDv7: it contains the time of creation in milliseconds.
	id, _ := uuid.Parse(e.Key)
	took := max(e.Time.Sub(time.Unix(id.Time().UnixTime())), 0)
	minute := c.minute(e.Time)
	c.Orders.Open--
	c.ToConclusion.Record(took)
	if e.Type == event.FulfillmentCancelled {
		c.Orders.Cancelled++
		c.Reasons[end.Reason]++
		minute.Cancelled++
		return
	}
	c.Orders.Shipped++
	c.ToParcel.Record(took)
	for _, i := range end.Items {
		c.Units[i.SKU] += int64(i.Quantity)
	}
	c.Revenue.Amount += end.Total.Amount
	minute.Shipped++
	minute.Revenue += end.Total.Amount
}

// minute returns the entry for the minute of at. If that is older than all entries
// that are kept, it returns an entry that is discarded.
func (c *checkpoint) minute(at time.Time) *Minute {
	start := at.UTC().Truncate(time.Minute)
	i, found := slices.BinarySearchFunc(c.Minutes, start, func(m Minute, t time.Time) int { return m.Minute.Compare(t) })
	if !found {
		full := len(c.Minutes) >= minutesKept
		if full && i == 0 {
			return new(Minute)
		}
		c.Minutes = slices.Insert(c.Minutes, i, Minute{Minute: start})
		if full {
			c.Minutes = c.Minutes[1:]
			i--
		}
	}
	return &c.Minutes[i]
}
