package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
)

// requestTimeout bounds what one request may wait for NATS.
const requestTimeout = 3 * time.Second

// routes is the API and the pages. Requests that change something are bounded and
// traced; those that only look are no part of an order's story.
func (o *orders) routes() http.Handler {
	bounded := o.atMost(o.bounds.underWay)
	forms := o.atMost(o.bounds.underWay) // each makes a request of the API, which counts there
	mux := http.NewServeMux()
	mux.Handle("POST /orders", o.unlessFull(bounded(o.traced("POST /orders", o.post))))
	mux.Handle("DELETE /orders/{id}", bounded(o.traced("DELETE /orders/{id}", o.delete)))
	mux.HandleFunc("GET /orders/{id}", o.show)
	mux.HandleFunc("GET /orders", o.list)
	mux.HandleFunc("GET /orders/{id}/events", o.events)
	mux.HandleFunc("GET /events", o.changes)
	mux.HandleFunc("GET /catalog", o.products)
	mux.HandleFunc("GET /orders/{id}/trail", o.showTrail)
	mux.HandleFunc("GET /trail", o.locate)
	mux.HandleFunc("GET /services", o.serviceMap)
	o.api = mux

	mux.HandleFunc("GET /{$}", o.shop)
	mux.Handle("POST /place", forms(http.HandlerFunc(o.placeForm)))
	mux.Handle("POST /scenarios/{name}", forms(http.HandlerFunc(o.playForm)))
	mux.Handle("POST /orders/{id}/cancel", forms(http.HandlerFunc(o.cancelForm)))
	mux.HandleFunc("GET /assets/", web.Assets)

	// Nobody's page but ours may place orders in a reader's name.
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "this request was made by a page from elsewhere: orders can be placed and cancelled from the shop's own pages, and by programs")
	}))
	return o.problemPages(sameOrigin.Handler(problems(mux)))
}

// traced gives a request its span. Who calls from outside gets a link to their
// span but is not its parent, has no say in sampling, and brings no baggage in.
func (o *orders) traced(route string, h http.HandlerFunc) http.Handler {
	return otelhttp.NewHandler(h, route,
		otelhttp.WithTracerProvider(o.Provider),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }),
		otelhttp.WithSpanNameFormatter(func(operation string, _ *http.Request) string { return operation }),
	)
}

func (o *orders) post(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, fmt.Sprintf("the Content-Type is %.100q: it must be application/json", r.Header.Get("Content-Type")))
		return
	}
	key, err := idempotencyKey(r.Header.Values("Idempotency-Key"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit))
		return
	} else if err != nil {
		refuse(w, http.StatusBadRequest, "the body could not be read")
		return
	}
	request, err := parseRequest(body)
	if err != nil {
		refuseRequest(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	order, err := o.place(ctx, request, key)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/orders/"+order.ID)
	o.answer(w, http.StatusAccepted, order)
}

// idempotencyKey reads the Idempotency-Key header: none, or one of 1 to 255
// visible ASCII characters.
func idempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", errors.New("there is more than one Idempotency-Key")
	}
	key := values[0]
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("the Idempotency-Key must have 1 to %d visible ASCII characters", maxKey)
	}
	return key, nil
}

// show answers GET /orders/{id}: with a page for a browser, else with JSON.
func (o *orders) show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if id := r.PathValue("id"); web.WantsHTML(r) && event.IsOrderID(id) {
		o.showPage(w, r, id)
		return
	}
	o.withID(w, r, http.StatusOK, func(ctx context.Context, id string) (Order, error) { return o.get(ctx, id, 0) })
}

func (o *orders) delete(w http.ResponseWriter, r *http.Request) {
	o.withID(w, r, http.StatusAccepted, o.cancel)
}

func refuseID(w http.ResponseWriter, id string) {
	refuse(w, http.StatusBadRequest, fmt.Sprintf("%.50q is not an order id: it must be a UUIDv7 in lower case", id))
}

// withID answers a request about one order.
func (o *orders) withID(w http.ResponseWriter, r *http.Request, status int, do func(context.Context, string) (Order, error)) {
	id := r.PathValue("id")
	if !event.IsOrderID(id) {
		refuseID(w, id)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	order, err := do(ctx, id)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	o.answer(w, status, order)
}

// fail answers with what an error means to the customer.
func (o *orders) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errNotFound):
		refuse(w, http.StatusNotFound, errNotFound.Error())
	case errors.Is(err, errOver):
		refuse(w, http.StatusConflict, "the order is shipped or cancelled already: it can no longer be cancelled")
	case errors.Is(err, errKeyUsed):
		refuse(w, http.StatusUnprocessableEntity, "this Idempotency-Key was used within the last hour for a request with another body: use a new key for a new order")
	case r.Context().Err() != nil: // the customer has gone
	default:
		o.Log.ErrorContext(r.Context(), "request failed", "method", r.Method, "error", err)
		w.Header().Set("Retry-After", retryAfter)
		refuse(w, http.StatusServiceUnavailable, o.outage(err)+": orders can not be stored or read right now, try again, with the same Idempotency-Key if you use one")
	}
}

// Answers of a server that has no room left, for which the client library has no
// names.
var full = []jetstream.ErrorCode{
	10023, // insufficient resources
	10047, // the server's store has reached its limit
	10077, // the stream has
}

// outage tells a customer what the matter is, without its particulars.
func (o *orders) outage(err error) string {
	var api *jetstream.APIError
	switch {
	case !o.Stream.JetStream().Conn().IsConnected():
		return "the shop has no connection to NATS"
	case errors.As(err, &api) && slices.Contains(full, api.ErrorCode):
		return "the disk of NATS is full"
	default:
		return "NATS does not answer in time"
	}
}

func (o *orders) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		o.Log.Debug("answer", "error", err) // the customer has gone
	}
}
