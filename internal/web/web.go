// Package web renders pages: it holds their templates, styles and script, and lays out
// their drawings. The data of a page comes from the service that serves it.
//
// A page works without its script, which adds live updates. A page loads nothing from
// other sites, and its Content-Security-Policy allows nothing else.
package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/view"
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

// Site holds the URLs in the navigation of all pages. An empty URL has no entry. Without
// Services, the shop has no traces: no page links to a trail, a span or the service map.
type Site struct {
	Shop, Services, Analytics, Jaeger, Mailbox string
}

// SiteOf returns the URLs that the settings name. Services needs traces.
func SiteOf(s service.Settings) Site {
	text := func(u *url.URL) string {
		if u == nil {
			return ""
		}
		return u.String()
	}
	shop := cmp.Or(s.ShopURL, service.DefaultShopURL)
	site := Site{
		Shop:      text(shop),
		Analytics: text(cmp.Or(s.AnalyticsURL, service.DefaultAnalyticsURL)),
		Jaeger:    strings.TrimSuffix(text(s.JaegerUIURL), "/"),
		Mailbox:   text(s.MailboxURL),
	}
	if s.JaegerURL != nil || s.KeepsTraces {
		site.Services = text(shop.JoinPath("services"))
	}
	return site
}

// Span returns the URL of a span in Jaeger, "" without one.
func (s Site) Span(r trail.Ref) string {
	if s.Jaeger == "" {
		return ""
	}
	return s.Jaeger + "/trace/" + r.TraceID + "?uiFind=" + r.SpanID
}

// Page is one page.
type Page struct {
	Template string // the name of its file, without .html
	Title    string
	Here     string // the current entry of the navigation: shop, services, analytics, or none
	// Refresh is the interval at which the script updates the page; 0 for never.
	Refresh time.Duration
	// Feed is the path of server-sent events. The script updates the page after each that
	// has a greater id than Seen.
	Feed string
	Seen uint64
	// Self is the path that shows this page, if it is not the path of the request.
	Self string
	// Retry makes the page load itself again until it is no error.
	Retry bool
	// Search is the text of the search field; "" for none.
	Search string
	Data   any
}

// data is the data of a template.
type data struct {
	Page
	Site Site
}

// RefreshMS returns Refresh in milliseconds, for the script.
func (v data) RefreshMS() int64 { return v.Refresh.Milliseconds() }

// parsed holds the template of each page, by name.
var parsed = func() map[string]*template.Template {
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic(err)
	}
	for name := range functions {
		if view.Functions[name] != nil { // the story's templates would call the wrong one
			panic("web: two functions of templates are named " + name)
		}
	}
	all := map[string]*template.Template{}
	for _, f := range files {
		t := template.New("layout.html").Funcs(view.Functions).Funcs(functions)
		template.Must(t.ParseFS(view.Templates, "templates/*.html"))
		all[strings.TrimSuffix(path.Base(f), ".html")] = template.Must(t.ParseFS(templates, "templates/layout.html", f))
	}
	return all
}()

// functions are the functions of templates.
var functions = template.FuncMap{
	"asset":  AssetURL,
	"money":  Money,
	"count":  Count,
	"cents":  func(n int64, currency string) string { return Money(event.Money{Amount: n, Currency: currency}) },
	"ms":     func(n float64) string { return trail.Duration(time.Duration(n * float64(time.Millisecond))) },
	"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"moment": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"short":  Short,
	"class":  Class,
	"reason": Reason,
}

// reasons replaces the names of reasons that are unclear alone.
var reasons = map[string]string{event.ReasonCustomer: "customer asked", event.ReasonDeadline: "deadline passed"}

// Reason returns the reason of a cancellation in words.
func Reason(reason string) string {
	return cmp.Or(reasons[reason], strings.ReplaceAll(reason, "_", " "))
}

// Write answers a request with a page.
func (s Site) Write(w http.ResponseWriter, r *http.Request, status int, p Page) error {
	t := parsed[p.Template]
	if t == nil {
		return fmt.Errorf("unknown page %q", p.Template)
	}
	var body bytes.Buffer // an error must not leave half a page
	if err := t.Execute(&body, data{p, s}); err != nil {
		http.Error(w, "this page cannot be shown", http.StatusInternalServerError)
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

// retryEvery is the interval at which the page of an error that may pass loads itself.
const retryEvery = 2 * time.Second

// Problem answers with the page of an error. If the response has a Retry-After, the page
// loads itself again until it is no error, unless it is the answer to a form.
func (s Site) Problem(w http.ResponseWriter, r *http.Request, status int, detail string) error {
	title := http.StatusText(status)
	p := Page{Template: "problem", Title: title, Data: struct {
		Status        int
		Title, Detail string
	}{status, title, detail}}
	if w.Header().Get("Retry-After") != "" && isRead(r) {
		p.Retry, p.Refresh = true, retryEvery
	}
	return s.Write(w, r, status, p)
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// Handler serves h and, beside it, the assets that pages load. Browsers get the errors of
// [respond.Fail] as pages. While ready returns an error, it is the answer to every request
// for a page, whatever h could still show.
func (s Site) Handler(ready func(context.Context) error, h http.Handler) http.Handler {
	return respond.Pages(respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		switch {
		case !isRead(r):
		case strings.HasPrefix(r.URL.Path, "/assets/"):
			Assets(w, r)
			return nil
		case respond.PrefersHTML(r):
			if err := ready(r.Context()); err != nil {
				return err
			}
		}
		h.ServeHTTP(w, r)
		return nil
	}), func(w http.ResponseWriter, r *http.Request, e *respond.Error) {
		if err := s.Problem(w, r, e.Status, e.Detail); err != nil {
			slog.Debug("write a page", "error", err) // the client has gone
		}
	})
}

// Waiting answers while a service waits for NATS, see [service.Definition].
func Waiting(settings service.Settings) http.Handler {
	return SiteOf(settings).Handler(func(context.Context) error { return service.ErrWaiting },
		respond.Handler(func(http.ResponseWriter, *http.Request) error { return service.ErrWaiting }))
}

// contents holds the content of each asset, by name. The pages of stories share their
// style and their script with the others.
var contents = func() map[string]string {
	entries, err := assets.ReadDir("assets")
	if err != nil {
		panic(err)
	}
	all := map[string]string{"app.css": view.Style, "app.js": view.Script}
	for _, e := range entries {
		content, err := assets.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		all[e.Name()] += string(content)
	}
	return all
}()

// assetURLs holds the path of each asset, by name.
var assetURLs = func() map[string]string {
	all := map[string]string{}
	for name, content := range contents {
		hash := sha256.Sum256([]byte(content))
		all[name] = fmt.Sprintf("/assets/%x/%s", hash[:6], name)
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
	gzhttp.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, name, time.Time{}, strings.NewReader(contents[name]))
	})).ServeHTTP(w, r)
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
