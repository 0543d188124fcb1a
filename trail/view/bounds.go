package view

import (
	"maps"
	"slices"
	"strings"

	"example.org/ordertrail/trail"
)

// Bounds of a page, which keep it near 1 MB: of a story that has more, the page counts the
// rest.
const (
	rowsShown       = 300
	attributesShown = 250_000 // bytes, of all rows; the chosen one has as many again
	foldedShown     = 50      // services without a row of their own
	arrowsShown     = 600
	tiesShown       = 1000 // of all rows; each has one nevertheless
	maxTies         = 100  // of a row, in each direction
	gapsShown       = 100
	sumsShown       = 50
	servicesShown   = 60 // on the map
	flowsShown      = 150

	nameShown    = 100 // bytes
	messageShown = 500
	valueShown   = 20_000 // of an attribute
)

// short cuts a name.
func short(s string) string { return cut(s, nameShown) }

// cut returns at most n bytes of s, and then a mark.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// limit leaves out the attributes of rows until the others fit the page. The chosen row
// keeps what fits of its own.
func (w *Waterfall) limit(chosen string) {
	size := 0
	for _, g := range w.Groups {
		for _, l := range g.Lanes {
			for i := range l.Rows {
				r := &l.Rows[i]
				if r.SpanID == chosen {
					r.shorten()
					continue
				}
				of := weight(r.Attributes)
				for _, t := range slices.Concat(r.Causes, r.Led) {
					of += weight(t.Attributes)
				}
				for _, e := range r.Events {
					of += len(e.Name) + 20 + weight(e.Attributes)
				}
				if r.Brief = size+of > attributesShown; !r.Brief {
					size += of
				}
			}
		}
	}
}

// weight returns the approximate size of attributes on a page.
func weight(as trail.Attributes) (size int) {
	for key := range as {
		size += len(key) + len(as.Text(key)) + 10
	}
	return size
}

// shorten cuts the attributes of a row, and counts those that do not fit the page.
func (r *Row) shorten() {
	left := attributesShown
	fit := func(as trail.Attributes) trail.Attributes {
		kept := trail.Attributes{}
		for _, key := range slices.Sorted(maps.Keys(as)) {
			if left <= 0 {
				r.MoreAttributes += len(as) - len(kept)
				break
			}
			value := any(cut(as.Text(key), valueShown))
			if len(as.Text(key)) <= valueShown {
				value = as[key]
			}
			left -= len(key) + min(len(as.Text(key)), valueShown) + 10
			kept[cut(key, messageShown)] = value
		}
		return kept
	}
	r.Attributes = fit(r.Attributes)
	for _, ties := range [][]Tie{r.Causes, r.Led} {
		for i := range ties {
			ties[i].Attributes = fit(ties[i].Attributes)
		}
	}
	var events []trail.Moment
	for i, e := range r.Events {
		if left <= 0 {
			r.MoreEvents = len(r.Events) - i
			break
		}
		left -= len(e.Name) + 20
		e.Attributes = fit(e.Attributes)
		events = append(events, e)
	}
	r.Events = events
}
