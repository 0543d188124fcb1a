package orders

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// problem is an error as the API shows it (RFC 9457).
type problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Errors []fault `json:"errors,omitempty"` // each thing that is wrong, with where
}

func refuse(w http.ResponseWriter, status int, detail string, errs ...fault) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error here means that the customer has gone.
	_ = json.NewEncoder(w).Encode(problem{"about:blank", http.StatusText(status), status, detail, errs})
}

// refuseRequest answers a body that is not an order.
func refuseRequest(w http.ResponseWriter, err error) {
	var f faults
	if errors.As(err, &f) {
		refuse(w, http.StatusUnprocessableEntity, f.Error(), f...)
		return
	}
	refuse(w, http.StatusBadRequest, err.Error())
}

// problems has a mux's own refusals (no such path, not this method) be problems
// too.
func problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refusal := &muxRefusal{header: w.Header()}
		mux.ServeHTTP(refusal, r)
		switch refusal.status {
		case http.StatusNotFound:
			refuse(w, http.StatusNotFound, "there is nothing at this path: try /orders or /catalog")
		case http.StatusMethodNotAllowed:
			refuse(w, http.StatusMethodNotAllowed, r.Method+" is not possible here: "+strings.Join(w.Header().Values("Allow"), ", ")+" is")
		default: // a redirect to the path's clean form
			w.WriteHeader(refusal.status)
		}
	})
}

// muxRefusal takes a mux's answer, of which only status and headers are wanted.
type muxRefusal struct {
	header http.Header
	status int
}

func (m *muxRefusal) Header() http.Header         { return m.header }
func (m *muxRefusal) Write(b []byte) (int, error) { return len(b), nil }
func (m *muxRefusal) WriteHeader(status int)      { m.status = status }
