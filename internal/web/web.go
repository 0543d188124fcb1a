// Package web renders pages: it holds their templates, styles and script, and lays out
// their drawings. The data of a page comes from the service that serves it.
//
// A page works without its script, which adds live updates. A page loads nothing from
// other sites, and its Content-Security-Policy allows nothing else.
package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/trail"
	"github.com/klauspost/compress/gzhttp"
)

//go:embed assets
var assets embed.FS

//go:embed templates
var templates embed.FS

// policy is the Content-Security-Policy of every page. It does not allow inline scripts
// or styles.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Site holds the URLs in the navigation of all pages. An empty URL has no entry.
type Site struct {
	Shop, Services, Analytics, Jaeger, Mailbox string
}

// SiteOf returns the URLs that the settings name.
func SiteOf(s service.Settings) Site {
	text := func(u *url.URL) string {
		if u == nil {
			return ""
		}
		return u.String()
	}
	shop := cmp.Or(s.ShopURL, service.DefaultShopURL)
	return Site{
		Shop:      text(shop),
		Services:  text(shop.JoinPath("services")),
		Analytics: text(cmp.Or(s.AnalyticsURL, service.DefaultAnalyticsURL)),
		Jaeger:    strings.TrimSuffix(text(s.JaegerUIURL), "/"),
		Mailbox:   text(s.MailboxURL),
	}
}

// Page is one page.
type Page struct {
	Template string // the name of its file, without .html
	Title    string
	Here     string // the current entry of the navigation: shop, services, analytics, or none
	// Refresh is the interval at which the script updates the page; 0 for never.
	Refresh time.Duration
	// Feed is the path of server-sent events. The script updates the page after each.
	Feed string
	Data any
}

// view is the data of a template.
type view struct {
	Page
	Site Site
}

// RefreshMS returns Refresh in milliseconds, for the script.
func (v view) RefreshMS() int64 { return v.Refresh.Milliseconds() }

// parsed holds the template of each page, by name.
var parsed = func() map[string]*template.Template {
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic(err)
	}
	all := map[string]*template.Template{}
	for _, f := range files {
		name := strings.TrimSuffix(path.Base(f), ".html")
		if name == "layout" {
			continue
		}
		t := template.New(name).Funcs(functions)
		template.Must(t.Parse(source("templates/layout.html")))
		all[name] = template.Must(t.Parse(source(f)))
	}
	return all
}()

// indentation is removed from templates: it is a tenth of a page with hundreds of rows.
var indentation = regexp.MustCompile(`(?m)^[ \t]+`)

func source(file string) string {
	b, err := fs.ReadFile(templates, file)
	if err != nil {
		panic(err)
	}
	return indentation.ReplaceAllString(string(b), "")
}

// functions are the functions of templates.
var functions = template.FuncMap{
	"asset":    AssetURL,
	"money":    Money,
	"count":    Count,
	"cents":    func(n int64, currency string) string { return Money(event.Money{Amount: n, Currency: currency}) },
	"duration": trail.Duration,
	"clock":    func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"moment":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"short":    Short,
	"class":    Class,
	"words":    words,
	"reason":   Reason,
	"percent":  wholePercent,
}

func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

// reasons replaces the names of reasons that say too little.
var reasons = map[string]string{event.ReasonCustomer: "customer asked", event.ReasonDeadline: "deadline passed"}

// Reason returns the reason of a cancellation in words.
func Reason(reason string) string { return cmp.Or(reasons[reason], words(reason)) }

// wholePercent formats a share. A small one is not rounded to 0 %.
func wholePercent(p float64) string {
	if p > 0 && p < 1 {
		return "under 1 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}

// Write answers a request with a page.
func (s Site) Write(w http.ResponseWriter, r *http.Request, status int, p Page) error {
	t := parsed[p.Template]
	if t == nil {
		return fmt.Errorf("unknown page %q", p.Template)
	}
	var body bytes.Buffer // an error must not leave half a page
	if err := t.Execute(&body, view{p, s}); err != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "this page cannot be shown\n")
		return fmt.Errorf("page %s: %w", p.Template, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: forms would be sent with Origin null, and be refused.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	var err error
	gzhttp.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, err = w.Write(body.Bytes())
	})).ServeHTTP(w, r)
	if err != nil {
		return fmt.Errorf("page %s: %w", p.Template, err)
	}
	return nil
}

// Problem answers with the page of an error.
func (s Site) Problem(w http.ResponseWriter, r *http.Request, status int, detail string) error {
	title := http.StatusText(status)
	return s.Write(w, r, status, Page{Template: "problem", Title: title, Data: struct {
		Status        int
		Title, Detail string
	}{status, title, detail}})
}

// assetURLs holds the path of each asset, by name.
var assetURLs = func() map[string]string {
	entries, err := assets.ReadDir("assets")
	if err != nil {
		panic(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		content, err := assets.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		hash := sha256.Sum256(content)
		all[e.Name()] = fmt.Sprintf("/assets/%x/%s", hash[:6], e.Name())
	}
	return all
}()

// AssetURL returns the path of an asset. It contains a hash of the content, so that a
// browser may keep the asset for ever.
func AssetURL(name string) (string, error) {
	if assetURLs[name] == "" {
		return "", fmt.Errorf("unknown asset %q", name)
	}
	return assetURLs[name], nil
}

// Assets serves the paths that AssetURL returns.
func Assets(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if assetURLs[name] != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeFileFS(w, r, assets, "assets/"+name)
}

// Money formats an amount.
func Money(m event.Money) string {
	sign, n := "", m.Amount
	if n < 0 {
		sign, n = "−", -n
	}
	return fmt.Sprintf("%s%s.%02d %s", sign, Count(n/100), n%100, m.Currency)
}

// Short returns the end of an id, which differs between ids made at the same time.
func Short(id string) string {
	if len(id) <= 6 {
		return id
	}
	return id[len(id)-6:]
}

// classes are the services with a colour of their own.
var classes = map[string]bool{"orders": true, "payments": true, "inventory": true, "fulfillment": true, "notify": true, "analytics": true}

// Class returns the style class with the colour of a service.
func Class(service string) string {
	if classes[service] {
		return "svc-" + service
	}
	return "svc-other"
}
