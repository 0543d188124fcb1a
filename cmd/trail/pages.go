package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
	"example.org/ordertrail/trail/view"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.Must(template.New("page").Funcs(view.Functions).Funcs(template.FuncMap{
	"storyID": storyID,
	"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"style":   func() template.CSS { return template.CSS(style) },     // #nosec G203 -- it is ours
	"code":    func() template.JS { return template.JS(view.Script) }, // #nosec G203 -- it is ours
}).Parse(pageText)).ParseFS(view.Templates, "templates/*.html"))

var style = view.Style + pageStyle

// policy allows what the page contains, by its hash, and nothing else.
var policy = "default-src 'none'; style-src 'sha256-" + hash(style) + "'; script-src 'sha256-" + hash(view.Script) + "'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// page is the data of the template. One of Story, List and Problem is set.
type page struct {
	Title   string
	Feed    string // path of the events after which the script updates the page
	Refresh int64  // milliseconds after which the script updates it without an event; 0 for never
	Story   *view.Page
	List    *list
	Problem string
}

type list struct {
	Query   string           `json:"query,omitempty"`
	Stories []summary        `json:"stories"`
	More    bool             `json:"more"` // there are more, which are left out
	Store   trail.Size       `json:"store"`
	OTLP    string           `json:"-"`
	Forward *receiver.Counts `json:"forward,omitempty"`

	stale bool // newer spans have arrived
}

// write writes a page that needs nothing else.
func (p page) write() ([]byte, error) {
	var body bytes.Buffer
	err := pageTemplate.Execute(&body, p)
	return body.Bytes(), err
}

// pages serves the stories of a store.
type pages struct {
	store   *trail.Store
	otlp    string                 // URL that traces are sent to
	forward func() receiver.Counts // nil if nothing is forwarded
	key     string
	recent  recent
}

func (p *pages) handler() http.Handler {
	mux := http.NewServeMux()
	few := fewAtATime()
	search := few(p.index)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("q") == "" { // one at a time makes the list, for all
			p.index(w, r)
			return
		}
		search(w, r)
	})
	mux.HandleFunc("GET /stories/{id}", few(p.story))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		p.fail(w, r, http.StatusNotFound, fmt.Sprintf("there is no page %.100q: the list of stories is at /", r.URL.Path))
	})
	mux.HandleFunc("GET /events", p.events)
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	zip := gzhttp.GzipHandler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin")
		w.Header().Set("Cache-Control", "no-store")
		if r.URL.Path == "/events" {
			mux.ServeHTTP(w, r)
			return
		}
		zip.ServeHTTP(w, r)
	})
}

// index answers with the newest stories, or with those that a search finds: ?q= with an id
// leads to its story, and key=value finds stories by an attribute.
func (p *pages) index(w http.ResponseWriter, r *http.Request) {
	l := list{Query: strings.TrimSpace(r.URL.Query().Get("q"))}
	key, value, byAttribute := strings.Cut(l.Query, "=")
	var err error
	switch {
	case l.Query == "":
		l, err = p.recent.get(r.Context(), p.store, options{key: p.key})
	case isID(strings.ToLower(l.Query)):
		http.Redirect(w, r, "/stories/"+strings.ToLower(l.Query), http.StatusSeeOther)
		return
	case !byAttribute || key == "":
		p.fail(w, r, http.StatusBadRequest, fmt.Sprintf("cannot search for %.100q: want a trace id (32 hex digits), a span id (16), or an attribute as key=value", l.Query))
		return
	default:
		var ids []string
		var more bool
		if ids, more, err = p.store.FindIDs(r.Context(), strings.TrimSpace(key), strings.TrimSpace(value), maxTraces); err == nil {
			l.Stories, l.More, err = stories(r.Context(), p.store, ids, options{key: p.key})
			l.More = l.More || more
		}
	}
	if err != nil {
		p.fail(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	if l.Stories == nil {
		l.Stories = []summary{}
	}
	l.Store, l.OTLP = p.store.Size(), p.otlp
	if p.forward != nil {
		counts := p.forward()
		l.Forward = &counts
	}
	html := page{Title: "Stories", Feed: "/events", List: &l}
	if l.stale { // the event of the newest span has come already
		html.Refresh = listInterval.Milliseconds()
	}
	p.answer(w, r, html, l, nil)
}

// storyOf returns the path of the story of a span.
func storyOf(span trail.Ref) string { return "/stories/" + span.SpanID }

// story answers with the story of a trace or a span.
func (p *pages) story(w http.ResponseWriter, r *http.Request) {
	id, query := strings.ToLower(r.PathValue("id")), r.URL.Query()
	if !isID(id) {
		p.fail(w, r, http.StatusBadRequest, fmt.Sprintf("%.100q is not an id: a trace id has 32 hex digits, a span id 16", id))
		return
	}
	o := options{key: p.key, until: query.Get("until")}
	if query.Has("key") {
		o.key = query.Get("key")
	}
	if len(id) == 16 && !query.Has("span") {
		query.Set("span", id) // it is shown, however large the story is
	}
	drawn, err := view.Options{Elsewhere: storyOf}.Read(query)
	if err != nil {
		p.fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	s, err := build(r.Context(), p.store, id, o)
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, trail.ErrNotFound) {
			status = http.StatusNotFound
		}
		p.fail(w, r, status, explain(err, id, "the store").Error())
		return
	}
	shown := s
	if drawn.Parents {
		shown = trail.Parents(s)
	}
	p.answer(w, r, page{Title: title(s, id), Feed: "/events", Story: view.New(s, drawn)}, shown, func(w http.ResponseWriter) {
		_ = write(w, shown, id, trail.WriteOptions{}) // an error means that the client has gone
	})
}

// answer answers in the form that the client accepts: a page, JSON, or text if there is one.
func (p *pages) answer(w http.ResponseWriter, r *http.Request, html page, value any, text func(http.ResponseWriter)) {
	types := []string{respond.MediaJSON, respond.MediaHTML, respond.MediaText}
	if text == nil {
		types = types[:2]
	}
	form, err := respond.Negotiate(w, r, types...)
	switch {
	case err != nil:
		p.fail(w, r, http.StatusNotAcceptable, err.Error())
	case form == respond.MediaText:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		text(w)
	case form == respond.MediaHTML:
		p.html(w, http.StatusOK, html)
	default:
		respond.JSON(w, http.StatusOK, value)
	}
}

func (p *pages) html(w http.ResponseWriter, status int, content page) {
	body, err := content.write()
	if err != nil {
		http.Error(w, "the page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
}

func (p *pages) fail(w http.ResponseWriter, r *http.Request, status int, detail string) {
	if respond.PrefersHTML(r) {
		p.html(w, status, page{Title: http.StatusText(status), Problem: detail})
		return
	}
	respond.Fail(w, r, respond.Errorf(status, "%s", detail))
}

// Times of the feed.
const (
	feedInterval = 500 * time.Millisecond
	feedAlive    = 15 * time.Second
	feedWrite    = 10 * time.Second
)

// events sends an event when spans have arrived, until the client leaves or the server
// stops.
func (p *pages) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Time{}) // a feed outlasts the server's timeouts
	tick := time.NewTicker(feedInterval)
	defer tick.Stop()
	before, written := -1, time.Time{}
	for {
		text, added := "", p.store.Size().Added
		switch {
		case added != before:
			size, _ := json.Marshal(p.store.Size())
			text = fmt.Sprintf("data: %s\n\n", size)
		case time.Since(written) > feedAlive:
			text = ": still here\n\n"
		}
		if text != "" {
			before, written = added, time.Now()
			_ = connection.SetWriteDeadline(written.Add(feedWrite))
			if _, err := fmt.Fprint(w, text); err != nil || connection.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
