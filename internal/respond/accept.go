package respond

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Media types of responses.
const (
	MediaJSON = "application/json"
	MediaHTML = "text/html"
	MediaText = "text/plain"
)

// Negotiate returns the media type that a request's Accept header prefers
// (RFC 9110, section 12.5.1) and sets Vary. Ties, and a request without the header,
// choose the first type. If the client accepts none of them, Negotiate returns an
// error with status 406.
func Negotiate(w http.ResponseWriter, r *http.Request, types ...string) (string, error) {
	w.Header().Add("Vary", "Accept")
	if chosen := preferred(r, types...); chosen != "" {
		return chosen, nil
	}
	return "", Errorf(http.StatusNotAcceptable, "the Accept header allows none of the available media types: %s", strings.Join(types, ", "))
}

// PrefersHTML reports whether the client prefers a page to JSON. Browsers name
// text/html; a client that accepts anything, such as curl, gets JSON.
func PrefersHTML(r *http.Request) bool { return preferred(r, MediaJSON, MediaHTML) == MediaHTML }

func preferred(r *http.Request, types ...string) (chosen string) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return types[0]
	}
	best := 0.0
	for _, t := range types {
		if q := quality(accept, t); q > best {
			chosen, best = t, q
		}
	}
	return chosen
}

// quality returns the weight that an Accept header gives to a media type: the weight
// of the most specific range that matches it.
func quality(accept, mediaType string) float64 {
	kind, _, _ := strings.Cut(mediaType, "/")
	ranges := []string{"*/*", kind + "/*", mediaType} // the most specific is the last
	specific, q := -1, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if at := slices.Index(ranges, name); at > specific {
			specific, q = at, 1
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
					q = 0
				}
			}
		}
	}
	return q
}
