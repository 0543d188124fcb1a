package storefront

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/view"
)

// streamTimeout bounds the time that a trail waits for NATS.
const streamTimeout = time.Second

// trailRefresh is the interval at which a trail's page asks for spans that are still to
// come.
const trailRefresh = time.Second

// trail answers with an order's trail: everything about it, from all its traces.
func (s *storefront) trail(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := orders.CheckID(id); err != nil {
		return err
	}
	drawn, err := view.Options{Class: web.Class, Backend: s.site.Span}.Read(r.URL.Query())
	if err != nil {
		return respond.Errorf(http.StatusBadRequest, "%v", err)
	}
	form, err := respond.Negotiate(w, r, respond.MediaJSON, respond.MediaHTML, respond.MediaText)
	if err != nil {
		return err
	}
	t, err := s.trailOf(r.Context(), id)
	if err != nil {
		return s.explain(r.Context(), err, "there is no such order, and no trace of one")
	}
	if form == respond.MediaHTML {
		return s.trailPage(w, r, t, drawn)
	}
	if drawn.Parents {
		t.Story = *trail.Parents(&t.Story)
	}
	switch form {
	case respond.MediaText:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = ordertrail.Write(w, t, trail.WriteOptions{}) // an error means that the client has gone
	default:
		respond.JSON(w, http.StatusOK, t)
	}
	return nil
}

func (s *storefront) trailPage(w http.ResponseWriter, r *http.Request, t *ordertrail.Trail, drawn view.Options) error {
	data := struct {
		Trail *ordertrail.Trail
		Page  *view.Page
	}{t, view.New(&t.Story, drawn)}
	p := web.Page{Template: "trail", Title: "Trail of order …" + web.Short(t.OrderID), Data: data}
	if t.Pending {
		p.Refresh = trailRefresh
	}
	if n := len(t.Events); n > 0 {
		p.Feed, p.Seen = "/orders/"+t.OrderID+"/events", t.Events[n-1].Sequence
	}
	return s.page(w, r, http.StatusOK, p)
}

// trailOf stitches an order's trail and checks it against the stream. It returns
// trail.ErrNotFound if neither the stream nor the traces have the order.
func (s *storefront) trailOf(ctx context.Context, id string) (*ordertrail.Trail, error) {
	if s.traces == nil {
		return nil, errNoTraces
	}
	order := s.streamOrder(ctx, id)
	ctx, cancel := context.WithTimeout(ctx, s.sourceTimeout)
	defer cancel()
	found, err := ordertrail.Collect(ctx, s.traces, order)
	if err == nil && len(found.Spans) == 0 && order.State == "" && order.Err == nil {
		err = trail.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return ordertrail.Stitch(order, found), nil
}

// streamOrder returns what the stream holds of an order.
func (s *storefront) streamOrder(ctx context.Context, id string) ordertrail.Order {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	now := ordertrail.Order{ID: id, Now: time.Now()}
	order, _, err := s.shop.Read(ctx, id, 0)
	if errors.Is(err, orders.ErrNotFound) {
		return now
	}
	if err != nil {
		now.Err = err
		return now
	}
	now.State, now.Reason, now.Refunded, now.Open = order.State, order.Reason, order.Refunded, !over(order)
	for _, e := range order.Events {
		if e.Type == event.OrderCreated {
			now.Deadline = e.Time.Add(s.shop.Deadline())
		}
		now.Events = append(now.Events, ordertrail.Event(e))
	}
	return now
}

// over reports whether no more events will come. After an order's conclusion its
// payment and stock are closed, and the customer gets mail.
func over(o orders.Order) bool {
	has := func(types ...event.Type) bool {
		return slices.ContainsFunc(o.Events, func(e orders.Event) bool { return slices.Contains(types, e.Type) })
	}
	switch o.State {
	case orders.StateShipped:
		return has(event.NotifyReceived) && has(event.NotifyShipped)
	case orders.StateCancelled:
		return has(event.NotifyReceived) && has(event.NotifyCancelled) &&
			has(event.PaymentDeclined, event.PaymentRefunded) && has(event.InventoryRejected, event.InventoryReleased) &&
			(!o.Refunded || has(event.NotifyRefunded))
	}
	return false
}

var errNoTraces = respond.Errorf(http.StatusNotImplemented, "this shop has no source of traces: set JAEGER_URL to Jaeger's query API, such as http://localhost:16686")

// explain turns an error of the traces' source into one for the client, and logs it.
func (s *storefront) explain(ctx context.Context, err error, notFound string) error {
	var known *respond.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, trail.ErrNotFound):
		return respond.Errorf(http.StatusNotFound, "%s", notFound)
	case errors.Is(err, trail.ErrUnsupported):
		return respond.Errorf(http.StatusNotImplemented, "Jaeger finds no span by its id alone: ask for its trace, an id of 32 digits (?trace=, and &span= for this span in it); logs have it as trace_id, and Jaeger shows it in the address of the span's page")
	case ctx.Err() != nil: // the client has gone
		return err
	}
	s.log.WarnContext(ctx, "the source of traces failed", "error", err)
	answer := respond.Errorf(http.StatusBadGateway, "Jaeger's answer is not usable (JAEGER_URL is its address): try again")
	if errors.Is(err, context.DeadlineExceeded) {
		answer = respond.Errorf(http.StatusGatewayTimeout, "Jaeger did not answer within %v: try again", s.sourceTimeout)
	}
	answer.Retry, answer.Cause = true, err
	return answer
}

var (
	traceIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	spanIDForm  = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// located are the orders that a trace, or a span, belongs to.
type located struct {
	TraceID string         `json:"trace_id"`
	SpanID  string         `json:"span_id,omitempty"` // if the client asked for it
	Orders  []locatedOrder `json:"orders"`            // oldest first; several for a batch
}

type locatedOrder struct {
	ID    string `json:"id"`
	Trail string `json:"trail"` // path of its trail
}

// locate answers GET /trail?trace= and ?span= with the orders that a trace, or a span,
// belongs to. A browser gets to the trail if there is one order.
func (s *storefront) locate(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	traceID, spanID := query.Get("trace"), query.Get("span")
	switch {
	case traceID == "" && spanID == "":
		return respond.Errorf(http.StatusBadRequest, "the query is missing: ask for ?trace= with a trace id, or for ?span= with a span id")
	case traceID != "" && !traceIDForm.MatchString(traceID):
		return respond.Errorf(http.StatusBadRequest, "%.50q is not a trace id: it must have 32 hex digits in lower case", traceID)
	case spanID != "" && !spanIDForm.MatchString(spanID):
		return respond.Errorf(http.StatusBadRequest, "%.50q is not a span id: it must have 16 hex digits in lower case", spanID)
	}
	form, err := respond.Negotiate(w, r, respond.MediaJSON, respond.MediaHTML)
	if err != nil {
		return err
	}
	found, err := s.find(r.Context(), traceID, spanID)
	switch {
	case err != nil:
		return s.explain(r.Context(), err, "no span of it is known: it does not exist, was not sampled, or is no longer stored")
	case len(found.Orders) == 0:
		return respond.Errorf(http.StatusNotFound, "the trace belongs to no order")
	case form == respond.MediaJSON:
		respond.JSON(w, http.StatusOK, found)
		return nil
	case len(found.Orders) > 1:
		return s.page(w, r, http.StatusOK, web.Page{Template: "located", Title: "Orders of trace " + found.TraceID, Data: found})
	}
	to := found.Orders[0].Trail
	if spanID != "" {
		to += "#span-" + spanID
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// find looks for a span, a trace, or a span in a trace.
func (s *storefront) find(ctx context.Context, traceID, spanID string) (located, error) {
	if s.traces == nil {
		return located{}, errNoTraces
	}
	ctx, cancel := context.WithTimeout(ctx, s.sourceTimeout)
	defer cancel()
	if traceID == "" {
		var err error
		if traceID, err = s.traces.TraceOf(ctx, spanID); err != nil {
			return located{}, err
		}
	}
	spans, err := s.traces.Traces(ctx, traceID)
	if err == nil && len(spans.Spans) == 0 {
		err = trail.ErrNotFound
	}
	if err != nil {
		return located{}, err
	}
	found := located{TraceID: traceID, SpanID: spanID, Orders: []locatedOrder{}}
	ids := spans.Values(string(event.OrderIDKey))
	if spanID != "" {
		if ids = spans.ValuesOf(trail.Ref{TraceID: traceID, SpanID: spanID}, string(event.OrderIDKey)); ids == nil && !slices.ContainsFunc(spans.Spans, func(s trail.Span) bool { return s.SpanID == spanID }) {
			return located{}, trail.ErrNotFound
		}
	}
	if len(ids) == 0 { // links may lead to an order
		o, start := trail.Options{Key: string(event.OrderIDKey)}, trail.Ref{TraceID: traceID, SpanID: spanID}
		connected, err := trail.Collect(ctx, s.traces, o, start)
		if err != nil {
			return located{}, err
		}
		var story trail.Spans
		for _, l := range trail.Stitch(connected, o, start).Lanes {
			for _, n := range l.Spans {
				story.Spans = append(story.Spans, n.Span)
			}
		}
		ids = story.Values(string(event.OrderIDKey))
	}
	for _, id := range ids {
		found.Orders = append(found.Orders, locatedOrder{ID: id, Trail: "/orders/" + id + "/trail"})
	}
	return found, nil
}
