package shoptest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/services/orders"
)

// Answer is a response with its body read.
type Answer struct {
	*http.Response
	Content []byte
}

// WantStatus fails the test if the answer has another status.
func (a Answer) WantStatus(tb testing.TB, want int) {
	tb.Helper()
	if a.StatusCode != want {
		tb.Fatalf("%s %s: %d %s, want %d", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.Content, want)
	}
}

// MustDecode decodes the answer into value, which must have all its members.
func (a Answer) MustDecode(tb testing.TB, value any) {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(a.Content))
	d.DisallowUnknownFields()
	if err := d.Decode(value); err != nil {
		tb.Fatalf("answer %s: %v", a.Content, err)
	}
}

// MustOrder returns the order in the answer.
func (a Answer) MustOrder(tb testing.TB) (o orders.Order) {
	tb.Helper()
	a.MustDecode(tb, &o)
	return o
}

// WantProblem fails the test if the answer is not a problem (RFC 9457) with this status
// and a detail that contains each of these texts. It returns the faulty fields.
func (a Answer) WantProblem(tb testing.TB, status int, says ...string) []respond.Field {
	tb.Helper()
	a.WantStatus(tb, status)
	if got, want := a.Header.Get("Content-Type"), "application/problem+json"; got != want {
		tb.Errorf("Content-Type = %q, want %q", got, want)
	}
	var p struct {
		Type, Title, Detail string
		Status              int
		Errors              []respond.Field
	}
	a.MustDecode(tb, &p)
	if p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Status != status || p.Detail == "" {
		tb.Errorf("problem = %+v, want about:blank, %q, %d and a detail", p, http.StatusText(status), status)
	}
	for _, text := range says {
		if !strings.Contains(p.Detail, text) {
			tb.Errorf("detail = %q, want it to contain %q", p.Detail, text)
		}
	}
	for _, e := range p.Errors {
		if !strings.HasPrefix(e.Pointer, "/") || e.Detail == "" {
			tb.Errorf("error = %+v, want a pointer and a detail", e)
		}
	}
	return p.Errors
}

// Body returns the body of an order, changed at some paths: items.0.quantity, for
// example, is set to a value, or removed if the value is Absent.
func Body(change map[string]any) string {
	order := map[string]any{
		"customer": map[string]any{"name": "Robin Example", "email": "robin@example.com"},
		"items":    []any{map[string]any{"sku": "TRAIL-MAP", "quantity": 2}, map[string]any{"sku": "COMPASS", "quantity": 1}},
		"payment":  map[string]any{"token": "tok_ok"},
		"shipping": map[string]any{"address": "1 Trailhead Way, 12345 Sampleton"},
	}
	for path, value := range change {
		set(order, strings.Split(path, "."), value)
	}
	b, err := json.Marshal(order)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Absent removes a member.
type Absent struct{}

func set(in any, path []string, value any) {
	if list, ok := in.([]any); ok {
		i := int(path[0][0] - '0')
		if len(path) == 1 {
			list[i] = value
			return
		}
		set(list[i], path[1:], value)
		return
	}
	object := in.(map[string]any)
	switch {
	case len(path) > 1:
		set(object[path[0]], path[1:], value)
	case value == Absent{}:
		delete(object, path[0])
	default:
		object[path[0]] = value
	}
}
