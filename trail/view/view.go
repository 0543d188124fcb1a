// Package view draws stories: it lays out a waterfall of traces, the critical path and the
// service map, and has the templates, the style and the script that show them on a page.
// A page works without the script, which adds live updates and a panel for one span.
package view

import (
	"cmp"
	"embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"maps"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"example.org/ordertrail/trail"
)

// Templates has templates/*.html, which define "story", for a [Page], and "map", for a
// [ServiceMap]. They need the Functions.
//
//go:embed templates
var Templates embed.FS

// Style and Script are what pages with these templates load.
var (
	//go:embed trail.css
	Style string
	//go:embed trail.js
	Script string
)

// Functions are the functions of the templates.
var Functions = template.FuncMap{
	"counted":  trail.Counted,
	"duration": trail.Duration,
	"clip":     short,
	"message":  func(s string) string { return cut(s, messageShown) },
	"words":    words,
	"percent":  WholePercent,
}

func words(s string) string { return strings.ReplaceAll(short(s), "_", " ") }

// Options change how a story is drawn.
type Options struct {
	// Class returns the style class with the colour of a service. The default is [Class].
	Class func(service string) string
	// Backend returns the URL of a span in a tracing backend, "" for none.
	Backend func(trail.Ref) string
	// Elsewhere returns the URL of the story of a span that belongs to another story, "" for
	// none.
	Elsewhere func(trail.Ref) string
	// Parents draws the story as parents alone would, see [trail.Parents].
	Parents bool
	// Span is the id of a span that is shown with its trace, however large the story is.
	Span string
	// From is the number of the first row. 0 shows the most important rows of all.
	From int
	// Static leaves out what needs a server: other views and other rows.
	Static bool

	query url.Values
}

var spanIDForm = regexp.MustCompile(`^([0-9a-f]{16})?$`)

// Read returns the options with those that a request's query has: view (links, the default,
// or parents), span and from. An error names the wrong value and the right ones.
func (o Options) Read(query url.Values) (Options, error) {
	shown, from := query.Get("view"), cmp.Or(query.Get("from"), "0")
	row, err := strconv.Atoi(from)
	o.query, o.Parents, o.Span, o.From = query, shown == "parents", query.Get("span"), row
	switch {
	case shown != "" && shown != "links" && !o.Parents:
		return o, fmt.Errorf("unknown view %.50q (views: links, parents)", shown)
	case !spanIDForm.MatchString(o.Span):
		return o, fmt.Errorf("span=%.50q is not a span id: it must have 16 hex digits in lower case", o.Span)
	case err != nil || row < 0:
		return o, fmt.Errorf("from=%.50q is not the number of a row, 0 or more", from)
	}
	return o, nil
}

// Page is the data of template "story".
type Page struct {
	Story          *trail.Story
	Waterfall      *Waterfall
	Map            *ServiceMap
	Segments, Sums []Share // of the critical path
	Spans, Links   int
	Gaps           []trail.Gap // the first of them
	MoreGaps       int

	Options
}

// Query returns the query of another view, or of other rows, for [Options.Read].
func (p *Page) Query(key string, value any) string {
	query := url.Values{}
	maps.Copy(query, p.query)
	query.Del("span")
	query.Set(key, fmt.Sprint(value))
	return "?" + query.Encode()
}

// New lays out a story.
func New(s *trail.Story, o Options) *Page {
	if o.Class == nil {
		o.Class = Class
	}
	if o.Parents {
		s = trail.Parents(s)
	}
	p := &Page{Story: s, Waterfall: newWaterfall(s, o), Map: NewServiceMap(s.Services, o.Class), Options: o}
	p.Segments, p.Sums = shares(s.CriticalPath, o.Class)
	p.Gaps = s.Gaps[:min(len(s.Gaps), gapsShown)]
	p.MoreGaps = len(s.Gaps) - len(p.Gaps)
	for _, l := range s.Lanes {
		p.Spans += len(l.Spans)
	}
	for _, e := range s.Edges {
		if e.Kind == trail.EdgeLink {
			p.Links++
		}
	}
	return p
}

// At returns the URL of a span in a tracing backend, "" for none.
func (p *Page) At(span trail.Ref) string {
	if p.Backend == nil {
		return ""
	}
	return p.Backend(span)
}

// OtherStory returns the URL of the story of a span that belongs to another story, "" for
// none.
func (p *Page) OtherStory(span trail.Ref) string {
	if p.Elsewhere == nil {
		return ""
	}
	return p.Elsewhere(span)
}

// Class returns a style class with one of seven colours for a service, always the same.
func Class(service string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(service)) // never fails
	return "hue-" + string("abcdegh"[hash.Sum32()%7])
}

// percent formats a position.
func percent(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) + "%" }

// WholePercent formats a share. A small one is not rounded to 0 %.
func WholePercent(p float64) string {
	if p > 0 && p < 1 {
		return "under 1 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}
