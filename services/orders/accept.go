package orders

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Forms in which there is an answer.
const (
	formJSON = "application/json"
	formHTML = "text/html"
	formText = "text/plain"
)

// negotiate chooses the form that the Accept header likes best; of equals the first,
// which is also for who accepts anything, or does not say. If none will do, it
// refuses, and ok is false.
func negotiate(w http.ResponseWriter, r *http.Request, forms ...string) (form string, ok bool) {
	w.Header().Add("Vary", "Accept")
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return forms[0], true
	}
	best := 0.0
	for _, f := range forms {
		if q := quality(accept, f); q > best {
			form, best = f, q
		}
	}
	if best == 0 {
		refuse(w, http.StatusNotAcceptable, "there is no answer in a form that the Accept header names: "+strings.Join(forms, ", ")+" there is")
		return "", false
	}
	return form, true
}

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
