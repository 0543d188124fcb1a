package service

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.org/ordertrail/internal/respond"
)

// KnownHosts refuses requests whose Host header names another host than this one, with
// status 421. Otherwise a page of another site could read and change orders by a name that
// resolves to this address (DNS rebinding): to a browser, both have the same origin.
//
// Known are the names of the loopback interface, the hosts of SHOP_URL and ANALYTICS_URL,
// and those in ALLOWED_HOSTS. Ports do not matter.
func KnownHosts(s Settings, h http.Handler) http.Handler {
	known := slices.Clone(s.AllowedHosts)
	for _, u := range []*url.URL{s.ShopURL, s.AnalyticsURL} {
		if u != nil && u.Host != "" {
			known = append(known, respond.HostName(u.Host))
		}
	}
	return respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		host := respond.HostName(r.Host)
		if !respond.IsLoopback(host) && !slices.Contains(known, host) {
			return respond.Errorf(http.StatusMisdirectedRequest, "unknown host %.100q: add it to ALLOWED_HOSTS, or set SHOP_URL, if this is the shop's own name", host)
		}
		h.ServeHTTP(w, r)
		return nil
	})
}

// allowedHosts parses ALLOWED_HOSTS, a comma-separated list of host names.
func allowedHosts(list string) (names []string, err error) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if strings.ContainsAny(name, "/*@ ") {
			return nil, fmt.Errorf("%q is not a host name", name)
		}
		names = append(names, respond.HostName(name))
	}
	return names, nil
}
