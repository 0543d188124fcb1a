// Package storefront serves the shop's pages beside the API of orders, which it calls
// as a Go package.
//
//	GET /                     the shop: scenarios, counts, recent orders, an order form
//	GET /orders/{id}          an order, for clients that prefer HTML
//	GET /orders/{id}/trail    an order's trail, stitched from all its traces
//	GET /trail                the orders that a trace or a span belongs to
//	GET /search               the page of an order, a trace or a span, by its id
//	GET /services             the service map of the newest traces
//	GET /events               changes of the recent orders, live
//	POST /place, /scenarios/{name}, /orders/{id}/cancel   the forms
//
// While the service is not ready, every page is the same error, 503 with the reason, and
// every feed ends. The pages try again until they can be shown.
package storefront

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.org/ordertrail/internal/feed"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/trail"
)

// Service defines orders with the shop's pages. The pages read traces from the source,
// by default from Jaeger at JAEGER_URL, and show the mails of this process, if there
// are any.
func Service(traces trail.Source, mails *outbox.Outbox) service.Definition {
	return service.Definition{
		Name:     orders.Name,
		Durables: []stream.Durable{orders.Durable()},
		HTTPAddr: orders.DefaultHTTPAddr,
		Waiting:  web.Waiting,
		Wire: func(rt *service.Runtime) (service.Part, error) {
			s := newStorefront(rt, traces, mails)
			return service.Part{Run: s.shop.Run, HTTP: s.handler()}, nil
		},
	}
}

type storefront struct {
	shop          *orders.Shop
	traces        trail.Source   // nil if there are no traces
	mails         *outbox.Outbox // of this process; nil if it sends none
	site          web.Site
	log           *slog.Logger
	maps          sharedMap
	sourceTimeout time.Duration // for the answer of the source of traces
}

func newStorefront(rt *service.Runtime, traces trail.Source, mails *outbox.Outbox) *storefront {
	if traces == nil && rt.Settings.JaegerURL != nil {
		traces = trail.NewJaeger(rt.Settings.JaegerURL)
	}
	settings := rt.Settings
	settings.KeepsTraces = traces != nil
	return &storefront{
		shop: orders.New(rt), traces: traces, mails: mails, site: web.SiteOf(settings), log: rt.Log,
		maps: sharedMap{now: time.Now}, sourceTimeout: 3 * time.Second,
	}
}

// handler returns the API with the pages beside it.
func (s *storefront) handler() http.Handler {
	mux := respond.NewMux()
	s.shop.Routes(mux, s.order)
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /events", s.changes)
	mux.HandleFunc("GET /orders/{id}/trail", s.trail)
	mux.HandleFunc("GET /trail", s.locate)
	mux.HandleFunc("GET /search", s.search)
	mux.HandleFunc("GET /services", s.services)
	for form, page := range map[string]string{"/place": "/", "/scenarios/{name}": "/", "/orders/{id}/cancel": "/orders/{id}"} {
		mux.HandleFunc("GET "+form, func(w http.ResponseWriter, r *http.Request) error {
			http.Redirect(w, r, strings.ReplaceAll(page, "{id}", url.PathEscape(r.PathValue("id"))), http.StatusSeeOther)
			return nil
		})
	}
	mux.Handle("POST /place", s.shop.UnlessFull(s.shop.Guard(s.shop.Traced("POST /place", s.place))))
	mux.Handle("POST /scenarios/{name}", s.shop.UnlessFull(s.shop.Guard(s.shop.Traced("POST /scenarios/{name}", s.play))))
	mux.Handle("POST /orders/{id}/cancel", s.shop.Guard(s.shop.Traced("POST /orders/{id}/cancel", s.cancel)))
	return s.site.Handler(s.shop.NotReady, mux)
}

// page answers with a page.
func (s *storefront) page(w http.ResponseWriter, r *http.Request, status int, p web.Page) error {
	if err := s.site.Write(w, r, status, p); err != nil {
		s.log.Debug("write a page", "error", err) // usually the client has gone
	}
	return nil
}

// changesPause is the shortest time between two messages about all orders.
const changesPause = 200 * time.Millisecond

// changes answers with the recent orders that have changed, and the counts.
func (s *storefront) changes(w http.ResponseWriter, r *http.Request) error {
	return feed.Feed{Hub: &s.shop.News, Pause: changesPause, Next: func(_ context.Context, since, _ uint64) ([]feed.Message, error) {
		changed, upTo := s.shop.Recent(recentShown, since)
		if upTo < since { // since belongs to a stream that was replaced
			changed, upTo = s.shop.Recent(recentShown, 0)
		}
		if upTo == since && upTo > 0 {
			return nil, nil
		}
		return []feed.Message{{ID: upTo, Data: struct {
			Shop   orders.Counts  `json:"shop"`
			Orders []orders.Order `json:"orders"`
		}{s.shop.Counts(), changed}}}, nil
	}}.Serve(w, r)
}

// recentShown is the number of orders in the feed, and on all pages of the shop.
const recentShown = 100
