package orders

import (
	"net/http"
	"strings"

	"example.org/ordertrail/internal/web"
)

// negotiate chooses the form of an answer, of which the first is the default; see
// web.Negotiate. If none will do, it refuses, and ok is false.
func negotiate(w http.ResponseWriter, r *http.Request, forms ...string) (form string, ok bool) {
	w.Header().Add("Vary", "Accept")
	if form = web.Negotiate(r, forms...); form == "" {
		refuse(w, http.StatusNotAcceptable, "there is no answer in a form that the Accept header names: "+strings.Join(forms, ", ")+" there is")
	}
	return form, form != ""
}
