package trail

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteOptions are of [Write].
type WriteOptions struct {
	Color bool // with ANSI escape sequences
	Brief bool // without settlements that went well, and the critical path as its waits and the work that took longest
}

// Write prints a trail for people: a tree for each trace, with offsets from the
// order's start, durations, and ⇠ what each span links.
func Write(out io.Writer, t *Trail, o WriteOptions) error {
	w := &writer{trail: t, WriteOptions: o}
	w.title()
	for _, l := range t.Lanes {
		w.lane(l)
	}
	w.path()
	w.gaps()
	_, err := io.WriteString(out, w.text.String())
	return err
}

type writer struct {
	trail *Trail
	WriteOptions
	text strings.Builder
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

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.text, format, args...) }

func (w *writer) title() {
	t := w.trail
	state := t.State
	if state == "" {
		state = "state unknown"
	}
	if t.Reason != "" {
		state += " (" + t.Reason + ")"
	}
	if t.Refunded {
		state += ", refunded"
	}
	spans := 0
	for _, l := range t.Lanes {
		spans += len(l.Spans)
	}
	w.printf("order %s  %s  %s in %s, %s\n", w.style(bold, t.OrderID), state, count(spans, "span"), count(len(t.Lanes), "trace"), duration(t.Duration))
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// lane prints one trace. A line is: offset, duration, tree, what is to be said.
func (w *writer) lane(l Lane) {
	if !w.Brief {
		w.printf("\n%s\n", w.style(faint, "trace "+l.TraceID))
	}
	for _, n := range l.Spans {
		if w.Brief && settles(n) && n.Status != StatusError {
			continue
		}
		name := n.Service + ": " + n.Name
		branch := strings.Repeat("  ", n.Depth)
		w.printf("%12s %10s  %s%s%s\n", "+"+duration(n.Offset), duration(n.Duration), branch, w.name(n, name), w.remarks(n))
		for _, e := range w.trail.Links(n.Ref) {
			w.printf("%12s %10s  %s  %s\n", "", "", branch, w.link(e))
		}
	}
}

func (w *writer) name(n Node, name string) string {
	switch {
	case n.Status == StatusError:
		return w.style(red, name)
	case n.Critical:
		return w.style(bold, name)
	}
	return name
}

func (w *writer) remarks(n Node) string {
	var remarks []string
	if n.Delivery > 1 && n.Depth == 0 {
		remarks = append(remarks, w.style(yellow, fmt.Sprintf("delivery %d", n.Delivery)))
	}
	if n.Status == StatusError {
		remarks = append(remarks, w.style(red, strings.TrimSpace("failed "+n.ErrorType)))
	}
	if refused := n.Attributes.Text("call.refused"); refused != "" {
		remarks = append(remarks, w.style(yellow, "refused"))
	}
	if n.Compensation {
		remarks = append(remarks, w.style(yellow, "undo"))
	}
	if n.Batch != nil {
		remarks = append(remarks, fmt.Sprintf("batch: %d of %d links are this order's", n.Batch.OfOrder, n.Batch.Links))
	}
	if n.Critical {
		remarks = append(remarks, w.style(green, "*"))
	}
	text := ""
	if len(remarks) > 0 {
		text = "  " + strings.Join(remarks, ", ")
	}
	if w.Brief && n.Depth == 0 {
		text += w.style(faint, fmt.Sprintf("  trace %.8s…", n.TraceID))
	}
	return text
}

func (w *writer) link(e Edge) string {
	to := e.EventType
	if from := w.trail.Find(e.From); from != nil {
		to = from.Service + ": " + from.Name
	} else if e.External {
		to = "a caller's span, trace " + e.From.TraceID
	} else {
		to = strings.TrimSpace(to + " (not known, trace " + e.From.TraceID + ")")
	}
	text := strings.TrimSpace("⇠ "+e.Relationship) + " " + to
	if e.Wait > 0 {
		text += ", " + duration(e.Wait) + " later"
	}
	return w.style(cyan, text)
}

// path prints where the time went.
func (w *writer) path() {
	p := w.trail.CriticalPath
	if len(p.Segments) == 0 {
		return
	}
	if w.Brief {
		w.printf("critical path (*): %s to %s, %s\n", duration(p.Duration), p.To, longest(p))
		return
	}
	w.printf("\ncritical path (*): %s to %s\n", duration(p.Duration), p.To)
	for _, s := range p.Segments {
		what := s.Service + ": " + s.Name
		if s.Wait {
			what = w.style(faint, "wait for "+what)
		}
		w.printf("%12s %10s  %s\n", "+"+duration(s.Offset), duration(s.Duration), what)
	}
}

func (w *writer) gaps() {
	if w.trail.Complete {
		return
	}
	list := func(title string, pending bool) {
		for _, g := range w.trail.Gaps {
			if g.Pending == pending {
				if title != "" && !w.Brief {
					w.printf("\n")
				}
				if title != "" {
					w.printf("%s\n", w.style(yellow, title))
				}
				w.printf("  %s\n", g.Detail)
				title = ""
			}
		}
	}
	list("incomplete:", false)
	list("still to come:", true)
}

// settles tells whether a span is an acknowledgement, or the refusal of one.
func settles(n Node) bool { return n.Attributes.Text(operationKey) == "settle" }

// longest tells what took most of the critical path.
func longest(p CriticalPath) string {
	took := map[string]time.Duration{}
	most := ""
	for _, s := range p.Segments {
		what := s.Service + ": " + s.Name
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

// duration is readable at a glance: 950 µs, 4.2 ms, 1.03 s.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
