package analytics

import (
	"fmt"
	"net/http"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/histogram"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/trail"
)

const (
	pageRefresh = 2 * time.Second
	minutesMost = 60 // in the charts
	minutesMin  = 15
)

// serve answers GET /analytics: with a page for a browser, else with JSON.
func (a *analytics) serve(w http.ResponseWriter, r *http.Request) {
	newest := a.newest(r.Context())
	w.Header().Set("Vary", "Accept")
	if !respond.PrefersHTML(r) {
		respond.JSON(w, http.StatusOK, newest.report())
	} else if err := web.SiteOf(a.Settings).Write(w, r, http.StatusOK, page(newest, time.Now())); err != nil {
		a.Log.Debug("write the page", "error", err)
	}
}

// view is the data of the page.
type view struct {
	Aggregate
	Minutes   []Minute // of the charts
	Quantiles histogram.Quantiles
	Columns   []histogram.Column

	OrdersChart, RevenueChart, ParcelChart web.Chart
	UnitBars, ReasonBars                   []web.CountBar
}

// page returns the page that shows c.
func page(c checkpoint, now time.Time) web.Page {
	v := view{
		Aggregate: c.Aggregate, Minutes: lastMinutes(c.Minutes, now),
		Quantiles: c.ToParcel.Quantiles(), Columns: c.ToParcel.Columns(),
		UnitBars: web.CountBars(c.Units), ReasonBars: web.CountBars(c.Reasons),
	}
	v.drawMinutes()
	v.drawParcels(c.ToParcel)
	return web.Page{Template: "analytics", Title: "Analytics", Here: "analytics", Refresh: pageRefresh, Data: v}
}

// lastMinutes returns the minutes of the last hour, including those without an
// event, but none from before the first event beyond minutesMin.
func lastMinutes(kept []Minute, now time.Time) []Minute {
	end, n := now.UTC().Truncate(time.Minute), minutesMin
	if len(kept) > 0 {
		if last := kept[len(kept)-1].Minute; last.After(end) { // the clock of the stream is ahead
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

// drawMinutes draws the orders by state and the revenue for each minute.
func (v *view) drawMinutes() {
	var orders, revenue []web.Stack
	every := 5 * (1 + len(v.Minutes)/25)
	for _, m := range v.Minutes {
		at, mark := m.Minute.Format("15:04"), ""
		if m.Minute.Minute()%every == 0 {
			mark = at
		}
		orders = append(orders, web.Stack{
			Title:  fmt.Sprintf("%s: %d placed, %d shipped, %d cancelled", at, m.Created, m.Shipped, m.Cancelled),
			Mark:   mark,
			Values: []int64{m.Shipped, m.Cancelled, m.Created - m.Shipped - m.Cancelled},
		})
		money := web.Money(event.Money{Amount: m.Revenue, Currency: v.Revenue.Currency})
		revenue = append(revenue, web.Stack{Title: at + ": " + money, Mark: mark, Values: []int64{m.Revenue}})
	}
	v.OrdersChart = web.NewChart("Orders per minute by state. The table has the numbers.",
		[]string{"part-shipped", "part-cancelled", "part-open"}, web.Count, orders)
	v.RevenueChart = web.NewChart("Revenue per minute. The table has the numbers.", []string{"part-revenue"},
		func(cents int64) string { return web.Count(cents/100) + " " + v.Revenue.Currency }, revenue)
}

// drawParcels draws the distribution of the time to parcel, on a logarithmic axis.
func (v *view) drawParcels(h histogram.Histogram) {
	var orders []web.Stack
	for i, c := range v.Columns {
		s := web.Stack{Title: fmt.Sprintf("%s to %s: %s", trail.Duration(c.From), trail.Duration(c.To), trail.Counted(int(c.Count), "order")), Values: []int64{c.Count}}
		if i%(len(v.Columns)/6+1) == 0 {
			s.Mark = trail.Duration(c.To)
		}
		orders = append(orders, s)
	}
	p50, p99 := v.Quantiles.P50, v.Quantiles.P99
	c := web.NewChart(fmt.Sprintf("Time from order to parcel: at most %g ms for half of the orders, at most %g ms for 99 of 100.", p50, p99),
		[]string{"part-parcels"}, web.Count, orders)
	c.Points = []web.Mark{{X: c.At(h.Position(p50) - 0.5), Label: "p50"}, {X: c.At(h.Position(p99) - 0.5), Label: "p99"}}
	v.ParcelChart = c
}
