package analytics

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
)

const (
	pageRefresh = 2 * time.Second
	minutesMost = 60 // on the page's charts, of those that are kept
	minutesMin  = 15
)

// shown is what the page shows.
type shown struct {
	Aggregate
	Quantiles Quantiles
	Minutes   []Minute // the newest, those without an event too
	Orders    web.Chart
	Revenue   web.Chart
	Parcels   web.Chart
	Buckets   []bucket
	Units     []units
	Reasons   []reason
}

// bucket is a stretch of time to the parcel, and how many orders took that.
type bucket struct {
	From, To time.Duration
	Orders   int64
}

type units struct {
	SKU    string
	Units  int64
	Length string
}

type reason struct {
	Why    string
	Orders int64
	Length string
}

// page draws an aggregate.
func page(a Aggregate, now time.Time) web.Page {
	s := shown{Aggregate: a, Quantiles: a.ToParcel.quantiles(), Minutes: lastMinutes(a.Minutes, now)}
	s.drawMinutes()
	s.drawParcels()
	s.Units = countedUnits(a.Units)
	s.Reasons = countedReasons(a.Reasons)
	return web.Page{Template: "analytics", Title: "Analytics", Here: "analytics", Refresh: pageRefresh, Data: s}
}

// lastMinutes returns the last hour before now, with its empty minutes; less if there
// were no events before.
func lastMinutes(kept []Minute, now time.Time) []Minute {
	end := now.UTC().Truncate(time.Minute)
	n := minutesMin
	if len(kept) > 0 {
		if last := kept[len(kept)-1].Minute; last.After(end) { // the stream's clock is ahead
			end = last
		}
		n = int(min(max(end.Sub(kept[0].Minute)/time.Minute+1, minutesMin), minutesMost))
	}
	all := make([]Minute, n)
	for i := range all {
		all[i].Minute = end.Add(time.Duration(i-n+1) * time.Minute)
	}
	for _, m := range kept {
		if !m.Minute.Before(all[0].Minute) {
			all[m.Minute.Sub(all[0].Minute)/time.Minute] = m
		}
	}
	return all
}

// drawMinutes draws what became of orders, and the revenue, for each minute.
func (s *shown) drawMinutes() {
	n := len(s.Minutes)
	shipped, cancelled, open, revenue := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	titles, money := make([]string, n), make([]string, n)
	for i, m := range s.Minutes {
		shipped[i], cancelled[i], revenue[i] = float64(m.Shipped), float64(m.Cancelled), float64(m.Revenue)
		open[i] = float64(max(m.Created-m.Shipped-m.Cancelled, 0))
		at := m.Minute.Format("15:04")
		titles[i] = fmt.Sprintf("%s: %d placed, %d shipped, %d cancelled", at, m.Created, m.Shipped, m.Cancelled)
		money[i] = at + ": " + web.Money(event.Money{Amount: m.Revenue, Currency: s.Aggregate.Revenue.Currency})
	}
	whole := func(v float64) string { return web.Count(int64(v)) }
	s.Orders = web.NewChart("Orders for each minute by what became of them. The table has the numbers.",
		web.Series{Classes: []string{"part-shipped", "part-cancelled", "part-open"}, Values: [][]float64{shipped, cancelled, open}, Titles: titles, Scale: whole})
	s.Revenue = web.NewChart("Revenue for each minute. The table has the numbers.",
		web.Series{Classes: []string{"part-revenue"}, Values: [][]float64{revenue}, Titles: money, Scale: func(v float64) string {
			return web.Count(int64(v/100)) + " " + s.Aggregate.Revenue.Currency
		}})
	for i, m := range s.Minutes {
		if every := 5 * (1 + n/25); m.Minute.Minute()%every == 0 {
			mark := web.Mark{X: s.Orders.At(float64(i)), Label: m.Minute.Format("15:04")}
			s.Orders.Marks, s.Revenue.Marks = append(s.Orders.Marks, mark), append(s.Revenue.Marks, mark)
		}
	}
}

// drawn is how many of a histogram's buckets make one column: half a doubling.
const drawn = bucketsPerDoubling / 2

// drawParcels draws the distribution of the time to the parcel, on a logarithmic
// axis as the histogram's own.
func (s *shown) drawParcels() {
	counts := s.ToParcel.Counts
	first := slices.IndexFunc(counts, func(n int64) bool { return n > 0 })
	if first < 0 {
		s.Parcels = web.NewChart("No parcel has left yet.", web.Series{Scale: func(v float64) string { return web.Count(int64(v)) }})
		return
	}
	begin, end := first/drawn, (len(counts)-1)/drawn+1
	orders, titles := make([]float64, end-begin), make([]string, end-begin)
	for i := range orders {
		b := bucket{From: bound((begin+i)*drawn - 1), To: bound((begin+i+1)*drawn - 1)}
		if begin+i == 0 {
			b.From = 0
		}
		for _, n := range counts[(begin+i)*drawn : min((begin+i+1)*drawn, len(counts))] {
			b.Orders += n
		}
		s.Buckets = append(s.Buckets, b)
		orders[i] = float64(b.Orders)
		titles[i] = fmt.Sprintf("%s to %s: %d orders", web.Duration(b.From), web.Duration(b.To), b.Orders)
	}
	s.Parcels = web.NewChart(fmt.Sprintf("How long orders took until their parcel left: half of them at most %g ms, 99 of 100 at most %g ms.", s.Quantiles.P50, s.Quantiles.P99),
		web.Series{Classes: []string{"part-parcels"}, Values: [][]float64{orders}, Titles: titles, Scale: func(v float64) string { return web.Count(int64(v)) }})
	every := (end-begin)/6 + 1
	for i := 0; i < end-begin; i += every {
		s.Parcels.Marks = append(s.Parcels.Marks, web.Mark{X: s.Parcels.At(float64(i)), Label: web.Duration(s.Buckets[i].To)})
	}
	for _, q := range []struct {
		name string
		ms   float64
	}{{"p50", s.Quantiles.P50}, {"p99", s.Quantiles.P99}} {
		at := bucketsPerDoubling*math.Log2(max(q.ms, 1))/drawn - float64(begin)
		s.Parcels.Points = append(s.Parcels.Points, web.Mark{X: s.Parcels.At(min(max(at, 0), float64(end-begin)) - 0.5), Label: q.name})
	}
}

// bound is where a histogram's bucket ends.
func bound(i int) time.Duration {
	return time.Duration(math.Exp2(float64(i)/bucketsPerDoubling) * float64(time.Millisecond))
}

func countedUnits(by map[string]int64) (all []units) {
	largest := int64(0)
	for sku, n := range by {
		all, largest = append(all, units{SKU: sku, Units: n}), max(largest, n)
	}
	slices.SortFunc(all, func(a, b units) int {
		return cmp.Or(cmp.Compare(b.Units, a.Units), cmp.Compare(a.SKU, b.SKU))
	})
	for i := range all {
		all[i].Length = web.Length(all[i].Units, largest)
	}
	return all
}

func countedReasons(by map[string]int64) (all []reason) {
	largest := int64(0)
	for why, n := range by {
		all, largest = append(all, reason{Why: web.Reason(why), Orders: n}), max(largest, n)
	}
	slices.SortFunc(all, func(a, b reason) int {
		return cmp.Or(cmp.Compare(b.Orders, a.Orders), cmp.Compare(a.Why, b.Why))
	})
	for i := range all {
		all[i].Length = web.Length(all[i].Orders, largest)
	}
	return all
}
