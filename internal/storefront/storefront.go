// Package storefront serves the shop's pages beside the API of orders, which it calls
// as a Go package.
//
//	GET /                     the shop: scenarios, counts, recent orders, an order form
//	GET /orders/{id}          an order, for clients that prefer HTML
//	GET /orders/{id}/trail    an order's trail, stitched from all its traces
//	GET /trail                the orders that a trace or a span belongs to
//	GET /services             the service map of the newest traces
//	GET /events               changes of the recent orders, live
//	POST /place, /scenarios/{name}, /orders/{id}/cancel   the forms
package storefront

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/feed"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
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
		Durable:  orders.Durable(),
		HTTPAddr: orders.DefaultHTTPAddr,
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
		traces = trail.NewJaeger(rt.Settings.JaegerURL, event.OrderIDKey)
	}
	return &storefront{
		shop: orders.New(rt), traces: traces, mails: mails, site: web.SiteOf(rt.Settings), log: rt.Log,
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
	mux.HandleFunc("GET /services", s.services)
	mux.Handle("GET /assets/", http.HandlerFunc(web.Assets))
	mux.Handle("POST /place", s.shop.UnlessFull(s.shop.Guard(respond.Handler(s.place))))
	mux.Handle("POST /scenarios/{name}", s.shop.UnlessFull(s.shop.Guard(respond.Handler(s.play))))
	mux.Handle("POST /orders/{id}/cancel", s.shop.Guard(respond.Handler(s.cancel)))
	return respond.Pages(mux, func(w http.ResponseWriter, r *http.Request, e *respond.Error) {
		s.logged(s.site.Problem(w, r, e.Status, e.Detail))
	})
}

// page answers with a page.
func (s *storefront) page(w http.ResponseWriter, r *http.Request, status int, p web.Page) error {
	s.logged(s.site.Write(w, r, status, p))
	return nil
}

// logged logs an error of an answer. Mostly the client has gone.
func (s *storefront) logged(err error) {
	if err != nil {
		s.log.Debug("write a page", "error", err)
	}
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

// recentShown is the number of orders in the feed.
const recentShown = 100
