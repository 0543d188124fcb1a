package trail

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteOptions are the options of [Write].
type WriteOptions struct {
	Color bool // uses ANSI escape sequences
	Brief bool // leaves out successful settlements, and shortens the critical path to one line

	Columns int // lines are broken after so many; 0 and less than [Columns]: after that number
}

// Write prints a story for people: a tree for each trace, with offsets from the
// story's start, durations, and the spans that each span links (⇠). Of a story without
// links, see [Parents], it prints the causes that each span loses.
func Write(out io.Writer, title string, s *Story, o WriteOptions) error {
	o.Columns = max(o.Columns, Columns)
	w := &writer{story: s, WriteOptions: o, nodes: map[Ref]*Node{}, links: map[Ref][]Edge{}}
	spans := 0
	for _, l := range s.Lanes {
		spans += len(l.Spans)
		for i := range l.Spans {
			w.nodes[l.Spans[i].Ref] = &l.Spans[i]
		}
	}
	for _, e := range s.Edges {
		if e.Kind == EdgeLink {
			w.links[e.To] = append(w.links[e.To], e)
		}
	}
	w.printf("%s\n", w.wrap(w.style(bold, Printable(title)), 2))
	w.printf("%s in %s, %s\n", Counted(spans, "span"), Counted(len(s.Lanes), "trace"), Duration(s.Duration))
	if s.Lost > 0 {
		w.printf("%s\n", w.style(red, Counted(s.Lost, "cause")+" lost"))
	}
	for _, l := range s.Lanes {
		w.lane(l)
	}
	w.path()
	w.gaps("incomplete:", false)
	w.gaps("still to come:", true)
	_, err := io.WriteString(out, w.text.String())
	return err
}

// maxIndent bounds the depth that an indent shows, as on a page.
const maxIndent = 16

type writer struct {
	story *Story
	WriteOptions
	nodes map[Ref]*Node
	links map[Ref][]Edge // by the span that has them
	text  strings.Builder
}

// ANSI styles.
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (w *writer) style(style, s string) string {
	if !w.Color || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

func (w *writer) wrap(line string, indent int) string { return wrap(line, indent, w.Columns) }

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.text, format, args...) }

// row prints an offset, a duration, and text behind a branch of spaces.
func (w *writer) row(offset, took time.Duration, branch, text string) {
	line := fmt.Sprintf("%12s %10s  %s%s", "+"+Duration(offset), Duration(took), branch, text)
	w.printf("%s\n", w.wrap(line, 29+len(branch)))
}

func (w *writer) lane(l Lane) {
	if !w.Brief {
		w.printf("\n%s\n", w.style(faint, "trace "+l.TraceID))
	}
	for _, n := range l.Spans {
		if w.Brief && n.Attributes.first(operationKeys) == "settle" && n.Status != StatusError {
			continue
		}
		name := label(n.Service, n.Name)
		switch {
		case n.Status == StatusError:
			name = w.style(red, name)
		case n.Critical:
			name = w.style(bold, name)
		}
		branch := strings.Repeat("  ", min(n.Depth, maxIndent))
		w.row(n.Offset, n.Duration, branch, name+w.remarks(n))
		for _, e := range w.links[n.Ref] {
			w.cause(branch, w.link(e))
		}
		for _, e := range n.Lost {
			w.cause(branch, w.style(red, "lost:")+" "+w.link(e))
		}
	}
}

func label(service, name string) string { return Printable(service + ": " + name) }

// cause prints a line below a span.
func (w *writer) cause(branch, text string) {
	w.printf("%s\n", w.wrap(fmt.Sprintf("%23s  %s  %s", "", branch, text), 29+len(branch)))
}

func (w *writer) remarks(n Node) string {
	var remarks []string
	add := func(style, text string) { remarks = append(remarks, w.style(style, text)) }
	if n.Delivery > 1 && n.Depth == 0 {
		add(yellow, fmt.Sprintf("delivery %d", n.Delivery))
	}
	if n.Status == StatusError {
		add(red, strings.TrimSpace("failed "+Printable(n.ErrorType)))
	}
	if n.Attributes.Text(refusedKey) != "" {
		add(yellow, "refused")
	}
	if n.Compensation {
		add(yellow, "undo")
	}
	if n.Batch != nil {
		add(yellow, fmt.Sprintf("batch: %d of %d links belong here", n.Batch.Own, n.Batch.Links))
	}
	if n.Critical {
		add(green, "*")
	}
	text := ""
	if len(remarks) > 0 {
		text = "  " + strings.Join(remarks, ", ")
	}
	if w.Brief && n.Depth == 0 {
		text += w.style(faint, fmt.Sprintf("  trace%s%.8s…", noBreak, n.TraceID))
	}
	return text
}

func (w *writer) link(e Edge) string {
	to := e.EventType
	if from := w.nodes[e.From]; from != nil {
		to = label(from.Service, from.Name)
	} else if e.External {
		to = "an outside caller's span, trace " + e.From.TraceID
	} else if e.Elsewhere {
		to = strings.TrimSpace(Printable(to) + " (not in this story, trace " + e.From.TraceID + ")")
	} else {
		to = strings.TrimSpace(Printable(to) + " (missing, trace " + e.From.TraceID + ")")
	}
	text := strings.TrimSpace("⇠ "+Printable(e.Relationship)) + " " + to
	if e.Wait > 0 {
		text += ", " + strings.ReplaceAll(Duration(e.Wait), " ", noBreak) + noBreak + "later"
	}
	return w.style(cyan, text)
}

func (w *writer) path() {
	p := w.story.CriticalPath
	if len(p.Segments) == 0 {
		return
	}
	if w.Brief {
		w.printf("%s\n", w.wrap(fmt.Sprintf("critical path (*): %s to %s, %s", Duration(p.Duration), Printable(p.To), longest(p)), 2))
		return
	}
	w.printf("\n%s\n", w.wrap(fmt.Sprintf("critical path (*): %s to %s", Duration(p.Duration), Printable(p.To)), 2))
	for _, s := range p.Segments {
		what := label(s.Service, s.Name)
		if s.Wait {
			what = w.style(faint, "wait for "+what)
		}
		w.row(s.Offset, s.Duration, "", what)
	}
}

// longest returns the share of the critical path that took most time.
func longest(p CriticalPath) string {
	took := map[string]time.Duration{}
	most := ""
	for _, s := range p.Segments {
		what := label(s.Service, s.Name)
		if s.Wait {
			what = "waiting for " + what
		}
		took[what] += s.Duration
		if most == "" || took[what] > took[most] {
			most = what
		}
	}
	return fmt.Sprintf("%d %% of it %s", took[most]*100/max(1, p.Duration), most)
}

func (w *writer) gaps(title string, pending bool) {
	first := true
	for _, g := range w.story.Gaps {
		if g.Pending != pending {
			continue
		}
		if first && !w.Brief {
			w.printf("\n")
		}
		if first {
			w.printf("%s\n", w.style(yellow, title))
		}
		first = false
		w.printf("%s\n", w.wrap("  "+Printable(g.Detail), 4))
	}
}
