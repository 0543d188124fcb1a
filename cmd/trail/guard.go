package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.org/ordertrail/internal/respond"
)

// guard refuses requests that name another host, come from another site, or lack the
// token.
type guard struct {
	token string   // "" for none
	hosts []string // known beside the names of the loopback interface
}

// cookie keeps the token in a browser.
const cookie = "trail_token"

// healthPath needs no token: an orchestrator has none.
const healthPath = "/healthz"

func (g guard) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A name that resolves to this address would let a page of another site read
		// stories (DNS rebinding): to a browser, both have the same origin.
		if host := respond.HostName(r.Host); !respond.IsLoopback(host) && !slices.Contains(g.hosts, host) {
			http.Error(w, "unknown host: start trail serve with --allow-host "+host+" if this is its name", http.StatusMisdirectedRequest)
			return
		}
		if origin, err := url.Parse(r.Header.Get("Origin")); err != nil || origin.Host != "" && origin.Host != r.Host ||
			r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			http.Error(w, "requests from pages of other sites are refused", http.StatusForbidden)
			return
		}
		if g.token == "" || r.URL.Path == healthPath || g.has(r.Header.Get("Authorization"), "Bearer ") {
			h.ServeHTTP(w, r)
			return
		}
		query := r.URL.Query()
		if c, err := r.Cookie(cookie); err == nil && g.has(c.Value, "") {
			h.ServeHTTP(w, r)
			return
		} else if g.has(query.Get("token"), "") {
			http.SetCookie(w, &http.Cookie{Name: cookie, Value: g.token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			query.Del("token") // it must not stay in the address
			http.Redirect(w, r, (&url.URL{Path: "/" + strings.TrimLeft(r.URL.Path, "/"), RawQuery: query.Encode()}).String(), http.StatusSeeOther)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "the token is missing or wrong: send Authorization: Bearer TOKEN (show: --token or TRAIL_TOKEN), or open the page with ?token=TOKEN", http.StatusUnauthorized)
	})
}

func (g guard) has(text, prefix string) bool {
	text, ok := strings.CutPrefix(text, prefix)
	a, b := sha256.Sum256([]byte(text)), sha256.Sum256([]byte(g.token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
