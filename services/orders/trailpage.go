package orders

import (
	"html/template"
	"net/http"
	"strings"

	"ordertrail/internal/trail"
)

// trailPage answers with an order's trail for people.
func (o *orders) trailPage(w http.ResponseWriter, _ *http.Request, t *trail.Trail) {
	var text strings.Builder
	_ = trail.Write(&text, t, trail.WriteOptions{}) // a Builder has nothing to fail with
	o.page(w, "The trail of order "+t.OrderID, text.String())
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
	o.page(w, "The orders of trace "+found.TraceID, text.String())
}

// servicesPage draws the service map.
func (o *orders) servicesPage(w http.ResponseWriter, _ *http.Request, m trail.ServiceMap) {
	var text strings.Builder
	for _, f := range m.Flows {
		text.WriteString(f.From + " → " + f.To + ": " + f.EventType + "\n")
	}
	o.page(w, "Services", text.String())
}

var plainPage = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>{{.Title}}</title><h1>{{.Title}}</h1><pre>{{.Text}}</pre></html>
`))

func (o *orders) page(w http.ResponseWriter, title, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := plainPage.Execute(w, struct{ Title, Text string }{title, text}); err != nil {
		o.Log.Debug("answer", "error", err) // the reader has gone
	}
}
