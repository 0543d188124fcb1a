package respond

import (
	"net/http"
	"slices"
	"strings"
)

// Handler is a handler that can fail: its error is answered by [Fail].
type Handler func(http.ResponseWriter, *http.Request) error

func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		Fail(w, r, err)
	}
}

// Mux is an [http.ServeMux] that answers unknown paths and wrong methods by [Fail].
// Every pattern must begin with a method.
type Mux struct {
	mux     http.ServeMux
	methods map[string][]string // by path
}

// NewMux returns a Mux without routes.
func NewMux() *Mux {
	m := &Mux{methods: map[string][]string{}}
	m.mux.Handle("/", Handler(func(http.ResponseWriter, *http.Request) error {
		return Errorf(http.StatusNotFound, "unknown path: try /orders or /catalog")
	}))
	return m
}

// Handle adds a route.
func (m *Mux) Handle(pattern string, h http.Handler) {
	m.mux.Handle(pattern, h)
	method, path, _ := strings.Cut(pattern, " ")
	if m.methods[path] == nil {
		// It matches requests with methods that have no route of their own.
		m.mux.Handle(path, Handler(func(w http.ResponseWriter, r *http.Request) error {
			allowed := strings.Join(m.methods[path], ", ")
			w.Header().Set("Allow", allowed)
			return Errorf(http.StatusMethodNotAllowed, "%s is not allowed here (allowed: %s)", r.Method, allowed)
		}))
	}
	m.methods[path] = append(m.methods[path], method)
	if method == http.MethodGet {
		m.methods[path] = append(m.methods[path], http.MethodHead)
	}
	slices.Sort(m.methods[path])
}

// HandleFunc adds a route.
func (m *Mux) HandleFunc(pattern string, h Handler) { m.Handle(pattern, h) }

func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.mux.ServeHTTP(w, r) }
