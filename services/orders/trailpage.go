package orders

import (
	"net/http"
	"time"

	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/trail"
)

// trailRefresh is how often a trail's page looks for spans that are still to come.
const trailRefresh = time.Second

// trailPage shows an order's trail.
func (o *orders) trailPage(w http.ResponseWriter, r *http.Request, t *trail.Trail) {
	data := struct {
		Trail          *trail.Trail
		Waterfall      *web.Waterfall
		Map            *web.ServiceMap
		Segments, Sums []web.Share
		Spans, Links   int
	}{Trail: t, Waterfall: web.NewWaterfall(t), Map: web.NewServiceMap(t.Services)}
	data.Segments, data.Sums = web.Shares(t.CriticalPath)
	for _, l := range t.Lanes {
		data.Spans += len(l.Spans)
	}
	for _, e := range t.Edges {
		if e.Kind == trail.EdgeLink {
			data.Links++
		}
	}
	p := web.Page{Template: "trail", Title: "Trail of order …" + web.Short(t.OrderID), Data: data}
	if t.Pending {
		p.Refresh = trailRefresh
	}
	o.page(w, r, http.StatusOK, p)
}

// locatedPage leads to the trail of the order that something belongs to, or lets
// people choose among several.
func (o *orders) locatedPage(w http.ResponseWriter, r *http.Request, found Located) {
	if len(found.Orders) == 1 {
		to := found.Orders[0].Trail
		if found.SpanID != "" {
			to += "#span-" + found.SpanID
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	o.page(w, r, http.StatusOK, web.Page{Template: "located", Title: "Orders of trace " + found.TraceID, Data: found})
}

// servicesPage draws the service map.
func (o *orders) servicesPage(w http.ResponseWriter, r *http.Request, m trail.ServiceMap) {
	o.page(w, r, http.StatusOK, web.Page{Template: "services", Title: "Service map", Here: "services", Feed: "/events", Data: web.NewServiceMap(m)})
}
