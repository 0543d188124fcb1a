package orders

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/trail"
)

// Bounds of what a trail may wait for. Both are the shop's own: neither a slow NATS
// nor a slow Jaeger holds a reader for long.
const (
	trailStreamTimeout = time.Second
	trailSourceTimeout = 3 * time.Second
)

const (
	mapTraces = 1000        // how many of the newest traces the service map is made of
	mapFresh  = time.Second // how long one is good for
)

// sharedMap is the service map, made once for all who look at it: that reads a
// thousand traces, and a page that follows what happens asks four times a second.
type sharedMap struct {
	now   func() time.Time
	group singleflight.Group

	mu   sync.Mutex
	made time.Time
	kept trail.ServiceMap
}

// get returns the map, which make makes if there is no fresh one. An error is for
// those who wait for the same, and not kept.
func (s *sharedMap) get(ctx context.Context, make func(context.Context) (trail.ServiceMap, error)) (trail.ServiceMap, error) {
	m, err, _ := s.group.Do("", func() (any, error) {
		if m, fresh := s.fresh(); fresh {
			return m, nil
		}
		// It is for others too: they wait no longer than this, though the first leave.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trailSourceTimeout)
		defer cancel()
		m, err := make(ctx)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.made, s.kept = s.now(), m
		}
		return m, err
	})
	return m.(trail.ServiceMap), err
}

func (s *sharedMap) fresh() (trail.ServiceMap, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept, s.now().Sub(s.made) < mapFresh && !s.made.IsZero()
}

// trail answers GET /orders/{id}/trail: everything about an order, of all its traces.
func (o *orders) showTrail(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !event.IsOrderID(id) {
		refuseID(w, id)
		return
	}
	form, ok := negotiate(w, r, web.JSON, web.HTML, web.Text)
	if !ok {
		return
	}
	t, err := o.trailOf(r.Context(), id)
	if err != nil {
		o.failTrail(w, r, err, "there is no such order, and no trace of one")
		return
	}
	switch form {
	case web.HTML:
		o.trailPage(w, r, t)
	case web.Text:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = trail.Write(w, t, trail.WriteOptions{}) // the reader has gone
	default:
		o.answer(w, http.StatusOK, t)
	}
}

// trailOf stitches an order's trail, and has it checked against the stream. It
// returns trail.ErrNotFound for an order that neither stream nor traces know.
func (o *orders) trailOf(ctx context.Context, id string) (*trail.Trail, error) {
	if o.traces == nil {
		return nil, errNoTraces
	}
	order := o.streamOrder(ctx, id)
	sourceCtx, cancel := context.WithTimeout(ctx, trailSourceTimeout)
	defer cancel()
	found, err := o.traces.Order(sourceCtx, id)
	if err != nil && !errors.Is(err, trail.ErrNotFound) {
		return nil, err
	}
	if err != nil && order.State == "" && order.Err == nil {
		return nil, err
	}
	return trail.Stitch(order, found), nil
}

// streamOrder is what the stream says about an order.
func (o *orders) streamOrder(ctx context.Context, id string) trail.Order {
	ctx, cancel := context.WithTimeout(ctx, trailStreamTimeout)
	defer cancel()
	now := trail.Order{ID: id, Now: time.Now()}
	order, err := o.get(ctx, id, 0)
	if errors.Is(err, errNotFound) {
		return now
	}
	if err != nil {
		o.Log.WarnContext(ctx, "a trail is shown without the order's events", "error", err)
		now.Err = err
		return now
	}
	now.State, now.Reason, now.Refunded, now.Open = order.State, order.Reason, order.Refunded, !order.over()
	for _, e := range order.Events {
		if e.Type == event.OrderCreated {
			now.Deadline = e.Time.Add(o.deadline)
		}
		now.Events = append(now.Events, trail.OrderEvent{
			Type: e.Type, Sequence: e.Sequence, Time: e.Time, TraceID: e.TraceID, SpanID: e.SpanID, Sampled: e.sampled,
		})
	}
	return now
}

var errNoTraces = errors.New("there are no traces to look at")

// failTrail answers with what an error of the traces' source means.
func (o *orders) failTrail(w http.ResponseWriter, r *http.Request, err error, notFound string) {
	switch {
	case errors.Is(err, trail.ErrNotFound):
		refuse(w, http.StatusNotFound, notFound)
	case errors.Is(err, errNoTraces):
		refuse(w, http.StatusNotImplemented, "this shop has no traces to look at: set JAEGER_URL to Jaeger's query API, such as http://localhost:16686")
	case errors.Is(err, trail.ErrUnsupported):
		refuse(w, http.StatusNotImplemented, "Jaeger finds no span by its id alone: ask for its trace, an id of 32 digits (?trace=, and &span= for this span in it); logs have it as trace_id, and Jaeger in the address of every page that shows the span")
	case r.Context().Err() != nil: // the reader has gone
	case errors.Is(err, context.DeadlineExceeded):
		o.Log.WarnContext(r.Context(), "traces", "error", err)
		w.Header().Set("Retry-After", retryAfter)
		refuse(w, http.StatusGatewayTimeout, fmt.Sprintf("Jaeger did not answer within %v: try again", trailSourceTimeout))
	default:
		o.Log.WarnContext(r.Context(), "traces", "error", err)
		w.Header().Set("Retry-After", retryAfter)
		refuse(w, http.StatusBadGateway, "Jaeger does not answer as it should (JAEGER_URL says where it is): try again")
	}
}

var (
	traceIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	spanIDForm  = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// Located is where a trace, or a span, belongs.
type Located struct {
	TraceID string         `json:"trace_id"`
	SpanID  string         `json:"span_id,omitempty"` // if that was asked for
	Orders  []LocatedOrder `json:"orders"`            // oldest first; several for a batch
}

// LocatedOrder is an order whose trail has the trace.
type LocatedOrder struct {
	ID    string `json:"id"`
	Trail string `json:"trail"` // path of its trail
}

// locate answers GET /trail?trace= and ?span=: which orders a trace, or a span,
// belongs to. If it is one, it leads there.
func (o *orders) locate(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	traceID, spanID := query.Get("trace"), query.Get("span")
	switch {
	case traceID == "" && spanID == "":
		refuse(w, http.StatusBadRequest, "what to look for is missing: ?trace= with a trace id, or ?span= with a span id")
		return
	case traceID != "" && !traceIDForm.MatchString(traceID):
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%.50q is not a trace id: it must have 32 hex digits in lower case", traceID))
		return
	case spanID != "" && !spanIDForm.MatchString(spanID):
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%.50q is not a span id: it must have 16 hex digits in lower case", spanID))
		return
	}
	form, ok := negotiate(w, r, web.JSON, web.HTML)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), trailSourceTimeout)
	defer cancel()
	found, err := o.find(ctx, traceID, spanID)
	if err != nil {
		o.failTrail(w, r, err, "no span of it is known: it was never made or sampled, or it is forgotten")
		return
	}
	if len(found.Orders) == 0 {
		refuse(w, http.StatusNotFound, "it belongs to no order")
		return
	}
	if form == web.HTML {
		o.locatedPage(w, r, found)
		return
	}
	o.answer(w, http.StatusOK, found)
}

// find looks for a span, a trace, or a span in a trace.
func (o *orders) find(ctx context.Context, traceID, spanID string) (Located, error) {
	if o.traces == nil {
		return Located{}, errNoTraces
	}
	if traceID == "" {
		var err error
		if traceID, err = o.traces.TraceOf(ctx, spanID); err != nil {
			return Located{}, err
		}
	}
	spans, err := o.traces.Trace(ctx, traceID)
	if err != nil {
		return Located{}, err
	}
	located := Located{TraceID: traceID, SpanID: spanID, Orders: []LocatedOrder{}}
	ids := spans.Orders()
	if spanID != "" {
		if ids = spans.OrdersOf(trail.Ref{TraceID: traceID, SpanID: spanID}); ids == nil {
			return Located{}, trail.ErrNotFound
		}
	}
	for _, id := range ids {
		located.Orders = append(located.Orders, LocatedOrder{ID: id, Trail: "/orders/" + id + "/trail"})
	}
	return located, nil
}

// serviceMap answers GET /services: who sends what to whom, as the newest traces'
// links tell.
func (o *orders) serviceMap(w http.ResponseWriter, r *http.Request) {
	form, ok := negotiate(w, r, web.JSON, web.HTML)
	if !ok {
		return
	}
	if o.traces == nil {
		o.failTrail(w, r, errNoTraces, "")
		return
	}
	m, err := o.maps.get(r.Context(), func(ctx context.Context) (trail.ServiceMap, error) {
		found, err := o.traces.Recent(ctx, mapTraces)
		return trail.Map(found.Spans), err
	})
	if err != nil {
		o.failTrail(w, r, err, "")
		return
	}
	if form == web.HTML {
		o.servicesPage(w, r, m)
		return
	}
	o.answer(w, http.StatusOK, m)
}
