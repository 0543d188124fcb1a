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
}

// Write prints a trail for people: a tree for each trace, with offsets from the
// order's start, durations, and ⇠ what each span links.
func Write(out io.Writer, t *Trail, o WriteOptions) error {
	w := &writer{trail: t, color: o.Color}
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
	color bool
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
	if !w.color || s == "" {
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
	w.printf("\n%s\n", w.style(faint, "trace "+l.TraceID))
	for i, n := range l.Spans {
		name := n.Service + ": " + n.Name
		branch := strings.Repeat("  ", n.Depth)
		w.printf("%12s %10s  %s%s%s\n", "+"+duration(n.Offset), duration(n.Duration), branch, w.name(n, name), w.remarks(n))
		_ = i
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
	if len(remarks) == 0 {
		return ""
	}
	return "  " + strings.Join(remarks, ", ")
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
	w.printf("\n%s\n", w.style(yellow, "incomplete:"))
	for _, g := range w.trail.Gaps {
		w.printf("  %s\n", g.Detail)
	}
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
