package storefront

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/services/orders"
)

// The shop shows the recent orders on pages of this many.
const (
	pageOrders = 20
	pagesMost  = (recentShown + pageOrders - 1) / pageOrders
)

// homePage is the shop.
type homePage struct {
	Scenarios []scenario.Scenario
	Cards     []scenario.Card
	Form      form
	Counts    orders.Counts
	Orders    []orders.Order
	Pages
}

// Pages is the place of a page among the pages of recent orders. Positions begin at 1.
type Pages struct {
	First, Last, Of int // positions of the orders on this page, and the number of all
	Newer, Older    int // numbers of the pages beside it; 0 for none
}

// pageOf returns the orders on a page, from 1, of the recent orders.
func pageOf(recent []orders.Order, number int) ([]orders.Order, Pages) {
	from := min((number-1)*pageOrders, len(recent))
	to := min(from+pageOrders, len(recent))
	p := Pages{First: from + 1, Last: to, Of: len(recent), Newer: number - 1}
	if to < len(recent) {
		p.Older = number + 1
	}
	return recent[from:to], p
}

// form is an order that a customer fills in.
type form struct {
	Lines                       []line
	Name, Email, Address, Token string
	Key                         string                   // the Idempotency-Key: a double click places one order
	Refused                     string                   // why the order was not placed
	Faults                      map[string]respond.Field // by the name of the field
}

// line is a product in a form.
type line struct {
	catalog.Product
	Quantity string
}

// home shows the shop, with a page of the recent orders.
func (s *storefront) home(w http.ResponseWriter, r *http.Request) error {
	number := 1
	if text := r.URL.Query().Get("page"); text != "" {
		var err error
		if number, err = strconv.Atoi(text); err != nil || number < 1 || number > pagesMost {
			return respond.Errorf(http.StatusBadRequest, "page %.20q does not exist: it must be a number from 1 to %d", text, pagesMost)
		}
	}
	first := map[string]string{"TRAIL-MAP": "1", "COMPASS": "1"}
	return s.showHome(w, r, http.StatusOK, number, form{
		Lines: lines(func(sku string) string { return cmp.Or(first[sku], "0") }),
		Name:  scenario.CustomerName, Email: scenario.CustomerEmail, Address: scenario.Address,
		Token: scenario.Cards()[0].Token,
	})
}

func (s *storefront) showHome(w http.ResponseWriter, r *http.Request, status, number int, f form) error {
	f.Key = rand.Text()
	recent, upTo := s.shop.Recent(recentShown, 0)
	shown, pages := pageOf(recent, number)
	self := "/"
	if number > 1 {
		self = fmt.Sprintf("/?page=%d", number)
	}
	return s.page(w, r, status, web.Page{Template: "shop", Title: "Shop", Here: "shop", Feed: "/events", Seen: upTo, Self: self, Data: homePage{
		Scenarios: scenario.All(), Cards: scenario.Cards(), Form: f, Counts: s.shop.Counts(), Orders: shown, Pages: pages,
	}})
}

func lines(quantity func(sku string) string) (all []line) {
	for _, p := range catalog.Products() {
		all = append(all, line{p, quantity(p.SKU)})
	}
	return all
}

// place places the order of the shop's form. It leads to the order's page, or shows
// the form again with its faults.
func (s *storefront) place(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return respond.Errorf(http.StatusBadRequest, "the form could not be read: it must be URL-encoded")
	}
	f := form{
		Lines: lines(func(sku string) string { return strings.TrimSpace(r.PostForm.Get("quantity-" + sku)) }),
		Name:  r.PostForm.Get("name"), Email: r.PostForm.Get("email"), Address: r.PostForm.Get("address"),
		Token: r.PostForm.Get("token"), Faults: map[string]respond.Field{},
	}
	request := orders.Request{
		Customer: event.Customer{Name: f.Name, Email: f.Email},
		Payment:  event.Payment{Token: f.Token}, Shipping: event.Shipping{Address: f.Address},
	}
	for _, l := range f.Lines {
		n, err := strconv.Atoi(cmp.Or(l.Quantity, "0"))
		if err != nil {
			f.Faults["quantity-"+l.SKU] = respond.Field{Detail: fmt.Sprintf("is %.20q: it must be a number from 0 to %d", l.Quantity, orders.MaxQuantity)}
		} else if n != 0 {
			request.Items = append(request.Items, orders.Item{SKU: l.SKU, Quantity: n})
		}
	}
	if len(f.Faults) > 0 {
		f.Refused = "Some quantities are not numbers."
		return s.showHome(w, r, http.StatusUnprocessableEntity, 1, f)
	}
	order, err := s.shop.Place(r.Context(), request, r.PostForm.Get("key"))
	var refusal *respond.Error
	switch {
	case err == nil:
		http.Redirect(w, r, "/orders/"+order.ID, http.StatusSeeOther)
		return nil
	case !errors.As(err, &refusal) || refusal.Status != http.StatusUnprocessableEntity && refusal.Status != http.StatusBadRequest:
		return err
	}
	f.Refused = refusal.Detail
	for _, fault := range refusal.Fields {
		f.Refused = "Some fields are not valid."
		f.Faults[fieldOf(fault.Pointer, request.Items)] = fault
	}
	return s.showHome(w, r, refusal.Status, 1, f)
}

// fieldOf returns the name of the form's field for a JSON pointer into the request.
func fieldOf(pointer string, items []orders.Item) string {
	parts := strings.Split(pointer, "/")
	if len(parts) >= 3 && parts[1] == "items" {
		if i, err := strconv.Atoi(parts[2]); err == nil && i >= 0 && i < len(items) {
			return "quantity-" + items[i].SKU
		}
	}
	return parts[len(parts)-1] // name, email, token, address, items
}

// play does what a scenario's customer does.
func (s *storefront) play(w http.ResponseWriter, r *http.Request) error {
	sc, ok := scenario.Find(r.PathValue("name"))
	if !ok {
		return respond.Errorf(http.StatusNotFound, "unknown scenario %.50q", r.PathValue("name"))
	}
	request := orders.Request{
		Customer: event.Customer{Name: scenario.CustomerName, Email: scenario.CustomerEmail},
		Payment:  event.Payment{Token: sc.Token}, Shipping: event.Shipping{Address: sc.Addr},
	}
	for _, sku := range sc.SKUs {
		request.Items = append(request.Items, orders.Item{SKU: sku, Quantity: 1})
	}
	placed, err := s.shop.Place(r.Context(), request, "")
	if err != nil {
		return err
	}
	if sc.Cancel {
		// Not before the stock is reserved, so that the story is always the same. If that
		// takes long, the customer does not wait for it.
		s.await(r, placed.ID, event.InventoryReserved)
		var refusal *respond.Error
		if _, err := s.shop.Cancel(r.Context(), placed.ID); err != nil && !(errors.As(err, &refusal) && refusal.Status == http.StatusConflict) {
			return err
		}
	}
	http.Redirect(w, r, "/orders/"+placed.ID, http.StatusSeeOther)
	return nil
}

// patience bounds the wait of a scenario's customer.
const patience = time.Second

// await waits until an order has an event, for a while.
func (s *storefront) await(r *http.Request, id string, t event.Type) {
	watcher, err := s.shop.News.Watch(id, service.ClientOf(r))
	if err != nil {
		return
	}
	defer watcher.Close()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	for {
		_, events, err := s.shop.Read(ctx, id, max(watcher.UpTo(), s.shop.Last(id)))
		if err != nil {
			return
		}
		if _, there := event.Find(events, t); there {
			return
		}
		select {
		case <-watcher.News:
		case <-ctx.Done():
			return
		}
	}
}

// cancel answers an order page's button.
func (s *storefront) cancel(w http.ResponseWriter, r *http.Request) error {
	order, err := s.shop.Cancel(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/orders/"+order.ID, http.StatusSeeOther)
	return nil
}
