package orders

import (
	"net/http"
	"strings"

	"ordertrail/internal/trail"
	"ordertrail/internal/web"
)

// trailPage answers with an order's trail for people.
func (o *orders) trailPage(w http.ResponseWriter, _ *http.Request, t *trail.Trail) {
	var text strings.Builder
	_ = trail.Write(&text, t, trail.WriteOptions{}) // a Builder has nothing to fail with
	o.page(w, http.StatusOK, web.Page{Template: "text", Title: "The trail of order " + t.OrderID, Data: text.String()})
}

// locatedPage leads to the trail of the order that something belongs to, or lets
// people choose among several.
func (o *orders) locatedPage(w http.ResponseWriter, r *http.Request, found Located) {
	if len(found.Orders) == 1 {
		http.Redirect(w, r, found.Orders[0].Trail, http.StatusSeeOther)
		return
	}
	var text strings.Builder
	for _, order := range found.Orders {
		text.WriteString(order.Trail + "\n")
	}
	o.page(w, http.StatusOK, web.Page{Template: "text", Title: "The orders of trace " + found.TraceID, Data: text.String()})
}

// servicesPage draws the service map.
func (o *orders) servicesPage(w http.ResponseWriter, _ *http.Request, m trail.ServiceMap) {
	var text strings.Builder
	for _, f := range m.Flows {
		text.WriteString(f.From + " → " + f.To + ": " + f.EventType + "\n")
	}
	o.page(w, http.StatusOK, web.Page{Template: "text", Title: "Services", Data: text.String()})
}
