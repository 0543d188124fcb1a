package respond_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.org/ordertrail/internal/respond"
)

func TestPrefersHTML(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"":                                  false,
		"*/*":                               false, // curl
		"application/json":                  false,
		"text/html":                         true,
		"TEXT/HTML;charset=utf-8":           true,
		"text/*":                            true,
		"text/html, application/json":       false, // a tie: JSON is the default
		"application/json, text/html":       false,
		"text/html;q=0.9, application/json": false,
		"text/html, application/json;q=0.9": true,
		"text/html;q=0":                     false,
		"text/html;q=0, */*":                false,
		"text/html;q=nonsense":              false,
		"text/html;q=7":                     false,
		"application/json;q=0.1, text/*":    true,
		"text/event-stream":                 false,
		";;;,,,/":                           false,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": true, // a browser
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		if got := respond.PrefersHTML(r); got != want {
			t.Errorf("PrefersHTML with Accept: %s = %t, want %t", accept, got, want)
		}
	}
}
