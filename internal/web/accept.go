package web

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Forms in which there are answers.
const (
	JSON = "application/json"
	HTML = "text/html"
	Text = "text/plain"
)

// Negotiate chooses the form that a request's Accept header likes best; of equals
// the first, which is also for who accepts anything, or does not say. It returns ""
// if none will do.
func Negotiate(r *http.Request, forms ...string) (form string) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return forms[0]
	}
	best := 0.0
	for _, f := range forms {
		if q := quality(accept, f); q > best {
			form, best = f, q
		}
	}
	return form
}

// WantsHTML tells whether a request prefers a page to JSON: browsers name
// text/html. Who leaves it open, as curl does, gets JSON.
func WantsHTML(r *http.Request) bool { return Negotiate(r, JSON, HTML) == HTML }

// quality is how much an Accept header likes a form: by its most specific range that
// fits (RFC 9110, section 12.5.1).
func quality(accept, form string) float64 {
	kind, _, _ := strings.Cut(form, "/")
	ranges := []string{"*/*", kind + "/*", form} // the more specific, the later
	fits, q := -1, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if at := slices.Index(ranges, name); at > fits {
			fits, q = at, 1
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
					q = 0
				}
			}
		}
	}
	return q
}
