// Package web is how pages look: their templates, style and script, all embedded,
// and what draws on them. What a page is about, the service that serves it knows.
//
// A page works without its script, which adds what comes live. Everything is the
// page's own: it loads nothing from elsewhere, and its Content-Security-Policy
// allows nothing else.
package web

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/trail"
)

//go:embed assets
var assets embed.FS

//go:embed templates
var templates embed.FS

// policy is the Content-Security-Policy of every page. It has no exception for
// inline scripts or styles.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Site is what all pages of a service share: where the others are. An empty URL is
// a page that is not there.
type Site struct {
	Shop, Services, Analytics, Jaeger, Mailbox string
}

// SiteOf is where the settings say the pages are.
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
	Here     string // which entry of the navigation this is: shop, analytics, or none
	// Refresh has the script look for something new so often, until a page comes
	// without it.
	Refresh time.Duration
	// Feed is a stream of server-sent events: the script looks for something new
	// whenever it has one.
	Feed string
	Data any
}

// view is what a template sees.
type view struct {
	Page
	Site Site
}

// RefreshMS is Refresh as the script reads it.
func (v view) RefreshMS() int64 { return v.Refresh.Milliseconds() }

// parsed has a template for each page, by name.
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

// indentation is what is left out of templates: on a page with hundreds of rows it
// is a tenth of the weight.
var indentation = regexp.MustCompile(`(?m)^[ \t]+`)

func source(file string) string {
	b, err := fs.ReadFile(templates, file)
	if err != nil {
		panic(err)
	}
	return indentation.ReplaceAllString(string(b), "")
}

// functions are what templates can call beside their own data.
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

// reasons are those that as a word alone say too little.
var reasons = map[string]string{event.ReasonCustomer: "customer asked", event.ReasonDeadline: "deadline passed"}

// Reason says why an order was cancelled, in words.
func Reason(reason string) string { return cmp.Or(reasons[reason], words(reason)) }

// wholePercent is a share for people: what is there is never nothing.
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
		return fmt.Errorf("there is no page %q", p.Template)
	}
	var body bytes.Buffer // so that a page is never half of one
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
	h.Add("Vary", "Accept-Encoding")
	var err error
	if zip := r.Header.Get("Accept-Encoding"); strings.Contains(zip, "gzip") && !strings.Contains(zip, "gzip;q=0") {
		h.Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z := gzip.NewWriter(w)
		_, err = z.Write(body.Bytes())
		err = errors.Join(err, z.Close())
	} else {
		w.WriteHeader(status)
		_, err = w.Write(body.Bytes())
	}
	if err != nil {
		return fmt.Errorf("page %s: %w", p.Template, err)
	}
	return nil
}

// Problem shows what went wrong with a request.
func (s Site) Problem(w http.ResponseWriter, r *http.Request, status int, detail string) error {
	title := http.StatusText(status)
	return s.Write(w, r, status, Page{Template: "problem", Title: title, Data: struct {
		Status        int
		Title, Detail string
	}{status, title, detail}})
}

// fingerprints has the hash of each asset's content, by name.
var fingerprints = func() map[string]string {
	entries, err := fs.ReadDir(assets, "assets")
	if err != nil {
		panic(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := fs.ReadFile(assets, "assets/"+e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(b)
		all[e.Name()] = hex.EncodeToString(sum[:6])
	}
	return all
}()

// AssetURL is where a page finds an asset. It changes with the content, so that a
// browser may keep what it has. It returns an error if there is no such asset.
func AssetURL(name string) (string, error) {
	if fingerprints[name] == "" {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return "/assets/" + fingerprints[name] + "/" + name, nil
}

// Assets serves what AssetURL names, under /assets/.
func Assets(w http.ResponseWriter, r *http.Request) {
	fingerprint, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/assets/"), "/")
	content, err := assets.ReadFile("assets/" + name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fingerprint != fingerprints[name] || err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}

// Money is an amount for people.
func Money(m event.Money) string {
	sign, n := "", m.Amount
	if n < 0 {
		sign, n = "−", -n
	}
	return fmt.Sprintf("%s%s.%02d %s", sign, Count(n/100), n%100, m.Currency)
}

// Short is the end of an id, which differs between ids made at the same time.
func Short(id string) string {
	if len(id) <= 6 {
		return id
	}
	return id[len(id)-6:]
}

// classes are the services that have a colour of their own.
var classes = map[string]bool{"orders": true, "payments": true, "inventory": true, "fulfillment": true, "notify": true, "analytics": true}

// Class is the style class that gives a service its colour.
func Class(service string) string {
	if classes[service] {
		return "svc-" + service
	}
	return "svc-other"
}
