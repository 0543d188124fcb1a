package storefront

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/web"
)

// search answers GET /search?id= with a redirect to the page of an order, or to the trail
// of a trace or a span. If there is none, a browser gets a page with the reason, and may
// search again.
func (s *storefront) search(w http.ResponseWriter, r *http.Request) error {
	asked := strings.TrimSpace(r.URL.Query().Get("id"))
	page, err := s.pageOfID(r.Context(), strings.ToLower(asked))
	if err == nil {
		http.Redirect(w, r, page, http.StatusSeeOther)
		return nil
	}
	w.Header().Add("Vary", "Accept")
	var known *respond.Error
	if !errors.As(err, &known) || known.Retry || !respond.PrefersHTML(r) {
		return err
	}
	return s.page(w, r, known.Status, web.Page{Template: "search", Title: "Find by id", Search: asked, Data: known.Detail})
}

// pageOfID returns the path of the page of an order, a trace or a span.
func (s *storefront) pageOfID(ctx context.Context, id string) (string, error) {
	switch {
	case id == "":
		return "", respond.Errorf(http.StatusBadRequest, "the id is missing: enter the id of an order, a trace or a span")
	case event.IsOrderID(id):
		_, _, err := s.shop.Read(ctx, id, s.shop.Last(id))
		return "/orders/" + id, err
	case traceIDForm.MatchString(id):
		return s.pageOfTrace(ctx, "trace", id, "")
	case spanIDForm.MatchString(id):
		return s.pageOfTrace(ctx, "span", "", id)
	}
	return "", respond.Errorf(http.StatusBadRequest, "%.50q is not an id: that of an order is a UUIDv7, such as 01a20482-ab51-759f-8537-365521a88cb5; that of a trace has 32 hex digits, that of a span 16", id)
}

// pageOfTrace returns the path for a trace or a span that belongs to an order.
func (s *storefront) pageOfTrace(ctx context.Context, kind, traceID, spanID string) (string, error) {
	found, err := s.find(ctx, traceID, spanID)
	switch {
	case err != nil:
		return "", s.explain(ctx, err, "no "+kind+" with this id is known: it does not exist, was not sampled, or is no longer stored")
	case len(found.Orders) == 0:
		return "", respond.Errorf(http.StatusNotFound, "the %s belongs to no order", kind)
	}
	return "/trail?" + url.Values{kind: {traceID + spanID}}.Encode(), nil
}
