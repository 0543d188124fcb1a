// Package respond writes HTTP responses: JSON, errors as problem details
// (RFC 9457) or as pages, and feeds of server-sent events.
package respond

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
)

// JSON answers with a value as JSON, which no cache may keep.
func JSON(w http.ResponseWriter, status int, value any) {
	Encoded(w, status, MediaJSON, Encode(value))
}

// Encode returns a value as JSON. It panics if the value has no JSON form.
func Encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return append(text, '\n')
}

// Encoded answers with a text that requests may share, which no cache may keep.
func Encoded(w http.ResponseWriter, status int, mediaType string, text []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		slog.Debug("write a response", "error", err) // the client has gone
	}
}

// Error is an error that a client may see. Its text is the Detail.
type Error struct {
	Status int
	Detail string
	Fields []Field // the faults of a request's body, if that is the reason
	Retry  bool    // the same request may succeed later: the response has Retry-After
	Cause  error   // never shown to a client
}

// Field is a fault of one field in a request's body.
type Field struct {
	Pointer string `json:"pointer"` // JSON pointer (RFC 6901) into the body
	Detail  string `json:"detail"`
}

// Errorf returns an Error with this status and detail.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Detail: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// RetryAfter is the value of Retry-After, in seconds. By then the service has worked
// off a part of its backlog.
const RetryAfter = "1"

// Fail answers with err, as problem details or, for a client that prefers HTML, as
// the page that [Pages] sets. An error that is not an [Error] is logged and answered
// with status 500. If the client has gone, Fail does nothing.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		e = Errorf(http.StatusInternalServerError, "the request failed because of an error in the shop")
	}
	if e.Retry {
		w.Header().Set("Retry-After", RetryAfter)
	}
	if page, ok := r.Context().Value(pageKey{}).(page); ok && PrefersHTML(r) {
		page(w, r, e)
		return
	}
	Encoded(w, e.Status, "application/problem+json", Encode(struct {
		Type   string  `json:"type"`
		Title  string  `json:"title"`
		Status int     `json:"status"`
		Detail string  `json:"detail"`
		Errors []Field `json:"errors,omitempty"`
	}{"about:blank", http.StatusText(e.Status), e.Status, e.Detail, e.Fields}))
}

type (
	page    = func(http.ResponseWriter, *http.Request, *Error)
	pageKey struct{}
)

// Pages makes [Fail] show the errors of h with page to clients that prefer HTML.
func Pages(h http.Handler, page func(http.ResponseWriter, *http.Request, *Error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), pageKey{}, page)))
	})
}
