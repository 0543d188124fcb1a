package orders

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/internal/web"
)

// The pages are customers of the API: what their forms send is asked of it, with
// the same checks, bounds and spans.

// pagesShown is how many orders the shop's page lists.
const pagesShown = 20

// page answers with a page.
func (o *orders) page(w http.ResponseWriter, r *http.Request, status int, p web.Page) {
	if err := o.site.Write(w, r, status, p); err != nil {
		o.Log.Debug("answer", "error", err) // the reader has gone, mostly
	}
}

// shopPage is the shop.
type shopPage struct {
	Scenarios []scenario.Scenario
	Cards     []scenario.Card
	Form      form
	Counts    counts
	Orders    []Order
}

// form is an order that is being filled in.
type form struct {
	Lines                       []line
	Name, Email, Address, Token string
	Key                         string           // the order's Idempotency-Key: who clicks twice orders once
	Refused                     string           // why it was not taken
	Faults                      map[string]fault // by the name of the field
}

// line is a product in a form.
type line struct {
	catalog.Product
	Quantity string
}

func (o *orders) shop(w http.ResponseWriter, r *http.Request) {
	o.showShop(w, r, http.StatusOK, form{
		Lines: lines(func(sku string) string {
			if sku == "TRAIL-MAP" || sku == "COMPASS" {
				return "1"
			}
			return "0"
		}),
		Name: scenario.CustomerName, Email: scenario.CustomerEmail, Address: scenario.Address,
		Token: scenario.Cards()[0].Token,
	})
}

func (o *orders) showShop(w http.ResponseWriter, r *http.Request, status int, f form) {
	f.Key = rand.Text()
	newest, _ := o.recent.changed(0, pagesShown)
	o.page(w, r, status, web.Page{Template: "shop", Title: "Shop", Here: "shop", Feed: "/events", Data: shopPage{
		Scenarios: scenario.All(), Cards: scenario.Cards(), Form: f, Counts: o.counted(), Orders: newest,
	}})
}

func lines(quantity func(sku string) string) (all []line) {
	for _, p := range catalog.Products() {
		all = append(all, line{p, quantity(p.SKU)})
	}
	return all
}

// placeForm answers the shop's form: with the order's page, or with the form and
// what is wrong with it.
func (o *orders) placeForm(w http.ResponseWriter, r *http.Request) {
	if !readForm(w, r) {
		return
	}
	f := form{
		Lines: lines(func(sku string) string { return strings.TrimSpace(r.PostForm.Get("quantity-" + sku)) }),
		Name:  r.PostForm.Get("name"), Email: r.PostForm.Get("email"), Address: r.PostForm.Get("address"),
		Token: r.PostForm.Get("token"), Faults: map[string]fault{},
	}
	items, fields := []map[string]any{}, []string{}
	for _, l := range f.Lines {
		field := "quantity-" + l.SKU
		n, err := strconv.Atoi(cmp.Or(l.Quantity, "0"))
		if err != nil {
			f.Faults[field] = fault{Detail: fmt.Sprintf("is %.20q: it must be a number from 0 to %d", l.Quantity, maxQuantity)}
		} else if n != 0 {
			items, fields = append(items, map[string]any{"sku": l.SKU, "quantity": n}), append(fields, field)
		}
	}
	if len(f.Faults) > 0 {
		f.Refused = "Some quantities are no numbers."
		o.showShop(w, r, http.StatusUnprocessableEntity, f)
		return
	}
	got := o.ask(r, http.MethodPost, "/orders", r.PostForm.Get("key"), map[string]any{
		"customer": event.Customer{Name: f.Name, Email: f.Email}, "items": items,
		"payment": event.Payment{Token: f.Token}, "shipping": event.Shipping{Address: f.Address},
	})
	if got.status == http.StatusAccepted {
		http.Redirect(w, r, got.header.Get("Location"), http.StatusSeeOther)
		return
	}
	var p problem
	if got.status != http.StatusUnprocessableEntity && got.status != http.StatusBadRequest || json.Unmarshal(got.body.Bytes(), &p) != nil {
		got.copy(w)
		return
	}
	f.Refused = "Some fields need a second look."
	for _, one := range p.Errors {
		f.Faults[fieldOf(one.Pointer, fields)] = one
	}
	if len(p.Errors) == 0 {
		f.Refused = p.Detail
	}
	o.showShop(w, r, got.status, f)
}

// fieldOf names the field that a fault is about, by its JSON pointer. fields are
// those of the items, in their order.
func fieldOf(pointer string, fields []string) string {
	parts := strings.Split(pointer, "/")
	if len(parts) >= 3 && parts[1] == "items" {
		if i, err := strconv.Atoi(parts[2]); err == nil && i >= 0 && i < len(fields) {
			return fields[i]
		}
	}
	return parts[len(parts)-1] // name, email, token, address, items
}

// playForm answers a scenario's button: it does what the scenario's customer does.
func (o *orders) playForm(w http.ResponseWriter, r *http.Request) {
	sc, ok := scenario.Find(r.PathValue("name"))
	if !ok {
		refuse(w, http.StatusNotFound, fmt.Sprintf("there is no scenario %.50q", r.PathValue("name")))
		return
	}
	got := o.ask(r, http.MethodPost, "/orders", "", sc.Request())
	var placed Order
	if got.status != http.StatusAccepted || json.Unmarshal(got.body.Bytes(), &placed) != nil {
		got.copy(w)
		return
	}
	if sc.Cancel {
		// Not before the stock is reserved, so that the story is always the same. If that
		// takes long, the customer does not wait for it.
		o.await(r.Context(), placed.ID, event.InventoryReserved)
		if got := o.ask(r, http.MethodDelete, "/orders/"+placed.ID, "", nil); got.status != http.StatusAccepted && got.status != http.StatusConflict {
			got.copy(w)
			return
		}
	}
	http.Redirect(w, r, "/orders/"+placed.ID, http.StatusSeeOther)
}

// await waits until an order has an event, for a while.
func (o *orders) await(ctx context.Context, id string, t event.Type) {
	watch, remove, err := o.watchers.add(id)
	if err != nil {
		return
	}
	defer remove()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		events, err := o.Stream.Order(ctx, id, max(watch.upTo.Load(), o.recent.last(id)))
		if err != nil {
			return
		}
		if _, there := event.Find(events, t); there {
			return
		}
		select {
		case <-watch.news:
		case <-ctx.Done():
			return
		}
	}
}

// cancelForm answers an order page's button.
func (o *orders) cancelForm(w http.ResponseWriter, r *http.Request) {
	got := o.ask(r, http.MethodDelete, "/orders/"+r.PathValue("id"), "", nil)
	if got.status != http.StatusAccepted {
		got.copy(w)
		return
	}
	http.Redirect(w, r, "/orders/"+r.PathValue("id"), http.StatusSeeOther)
}

// readForm reads a form, which is no larger than a body of the API.
func readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("the form could not be read: it must have %d bytes at most", maxBody))
		return false
	}
	return true
}

// ask makes a request of the API on behalf of a page.
func (o *orders) ask(r *http.Request, method, path, key string, body any) *memory {
	got := &memory{header: http.Header{}}
	encoded, err := json.Marshal(body)
	if err == nil {
		r, err = http.NewRequestWithContext(r.Context(), method, path, bytes.NewReader(encoded))
	}
	if err != nil {
		refuse(got, http.StatusBadRequest, "the form could not be read")
		return got
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	o.api.ServeHTTP(got, r)
	return got
}

// memory is an answer that is kept.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *memory) Header() http.Header { return m.header }
func (m *memory) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}
func (m *memory) Write(b []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	return m.body.Write(b)
}

// copy answers with what is kept.
func (m *memory) copy(w http.ResponseWriter) {
	for name, values := range m.header {
		w.Header()[name] = values
	}
	w.WriteHeader(m.status)
	_, _ = w.Write(m.body.Bytes()) // an error means that the reader has gone
}

// problemPages has problems shown as pages to who wants pages.
func (o *orders) problemPages(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !web.WantsHTML(r) {
			h.ServeHTTP(w, r)
			return
		}
		catch := &problemCatcher{ResponseWriter: w}
		h.ServeHTTP(catch, r)
		var p problem
		if catch.caught && json.Unmarshal(catch.body.Bytes(), &p) == nil {
			if err := o.site.Problem(w, r, p.Status, p.Detail); err != nil {
				o.Log.Debug("answer", "error", err) // the reader has gone
			}
		}
	})
}

// problemCatcher keeps an answer that is a problem, and lets others through.
type problemCatcher struct {
	http.ResponseWriter
	caught bool
	body   bytes.Buffer
}

func (c *problemCatcher) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *problemCatcher) WriteHeader(status int) {
	if c.caught = c.Header().Get("Content-Type") == "application/problem+json"; !c.caught {
		c.ResponseWriter.WriteHeader(status)
	}
}

func (c *problemCatcher) Write(b []byte) (int, error) {
	if c.caught {
		return c.body.Write(b)
	}
	return c.ResponseWriter.Write(b)
}
