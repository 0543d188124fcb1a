package orders

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/feed"
	"example.org/ordertrail/internal/respond"
)

// requestTimeout bounds the time that one request waits for NATS.
const requestTimeout = 3 * time.Second

// Routes adds the API's routes. Clients that prefer HTML get page, if it is not nil,
// at GET /orders/{id}.
//
// Requests that change something are bounded and traced. Those that read are not
// traced: they are no part of an order's story.
func (s *Shop) Routes(mux *respond.Mux, page respond.Handler) {
	mux.Handle("POST /orders", s.UnlessFull(s.Guard(s.Traced("POST /orders", s.post))))
	mux.Handle("DELETE /orders/{id}", s.Guard(s.Traced("DELETE /orders/{id}", s.delete)))
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Vary", "Accept")
		if page != nil && respond.PrefersHTML(r) {
			return page(w, r)
		}
		return s.show(w, r)
	})
	mux.HandleFunc("GET /orders/{id}/events", s.events)
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, _ *http.Request) error {
		respond.Encoded(w, http.StatusOK, respond.MediaJSON, s.fold.recentJSON())
		return nil
	})
	mux.HandleFunc("GET /catalog", func(w http.ResponseWriter, _ *http.Request) error {
		respond.JSON(w, http.StatusOK, map[string]any{"products": catalog.Products()})
		return nil
	})
}

// Traced gives a request its span. The span of an outside caller is linked, and is not
// the parent: callers have no say in sampling and bring no baggage in.
func (s *Shop) Traced(route string, h respond.Handler) http.Handler {
	return otelhttp.NewHandler(h, route,
		otelhttp.WithTracerProvider(s.rt.Provider),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }),
		otelhttp.WithSpanNameFormatter(func(operation string, _ *http.Request) string { return operation }),
	)
}

func (s *Shop) post(w http.ResponseWriter, r *http.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != respond.MediaJSON {
		return respond.Errorf(http.StatusUnsupportedMediaType, "the Content-Type is %.100q: it must be application/json", r.Header.Get("Content-Type"))
	}
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) > 1 {
		return respond.Errorf(http.StatusBadRequest, "the request has more than one Idempotency-Key")
	}
	if len(keys) == 1 && !validKey(keys[0]) {
		return errBadKey
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	request, err := parseRequest(body)
	if err != nil {
		return err
	}
	order, err := s.Place(r.Context(), request, strings.Join(keys, ""))
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/orders/"+order.ID)
	respond.JSON(w, http.StatusAccepted, order)
	return nil
}

// validKey reports whether an Idempotency-Key has 1 to 255 visible ASCII characters.
func validKey(key string) bool {
	return key != "" && len(key) <= maxKey && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
}

var errBadKey = respond.Errorf(http.StatusBadRequest, "the Idempotency-Key must have 1 to %d visible ASCII characters", maxKey)

// CheckID returns an error for a text that is not an order's id.
func CheckID(id string) error {
	if !event.IsOrderID(id) {
		return respond.Errorf(http.StatusBadRequest, "%.50q is not an order id: it must be a UUIDv7 in lower case", id)
	}
	return nil
}

func (s *Shop) delete(w http.ResponseWriter, r *http.Request) error {
	order, err := s.Cancel(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	respond.JSON(w, http.StatusAccepted, order)
	return nil
}

func (s *Shop) show(w http.ResponseWriter, r *http.Request) error {
	order, _, err := s.Read(r.Context(), r.PathValue("id"), 0)
	if err != nil {
		return err
	}
	respond.JSON(w, http.StatusOK, order)
	return nil
}

// events answers with the order's events: those that are stored, then new ones.
func (s *Shop) events(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := CheckID(id); err != nil {
		return err
	}
	return feed.Feed{Hub: &s.News, Key: id, Next: func(ctx context.Context, since, upTo uint64) (news []feed.Message, err error) {
		order, _, err := s.Read(ctx, id, max(upTo, s.Last(id)))
		if last := len(order.Events) - 1; last >= 0 && order.Events[last].Sequence < since {
			since = 0 // it belongs to a stream that was replaced
		}
		for _, e := range order.Events {
			if e.Sequence > since {
				news = append(news, feed.Message{ID: e.Sequence, Data: e})
			}
		}
		return news, err
	}}.Serve(w, r)
}
