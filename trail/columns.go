package trail

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Columns is the width of the terminal that [Wrap] writes for, and [Write] by default.
const Columns = 80

// columns returns the columns that a rune takes on a terminal.
func columns(r rune) int {
	if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
		return 0 // it combines with the rune before it
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Printable returns s without the characters that control a terminal, because anybody may
// have written it.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, s)
}

// Width returns the columns that a line takes on a terminal. ANSI styles take none.
func Width(line string) (n int) {
	styled := false
	for _, r := range line {
		switch {
		case r == '\x1b':
			styled = true
		case styled:
			styled = r != 'm'
		default:
			n += columns(r)
		}
	}
	return n
}

// noBreak is the no-break space, at which Wrap does not break a line.
const noBreak = "\u00a0"

// Wrap breaks a line at spaces so that it takes at most [Columns] columns. The lines that
// follow begin with indent spaces. A longer word stays whole. Spaces at the end are left out.
// No-break spaces become spaces.
func Wrap(line string, indent int) string { return wrap(line, indent, Columns) }

func wrap(line string, indent, columns int) string {
	var text strings.Builder
	used, begun := 0, false
	spaces := 0 // before the next word
	for word := range strings.SplitSeq(line, " ") {
		if word != "" {
			took := Width(word)
			if begun && used+spaces+took > columns {
				text.WriteString("\n")
				used, spaces = 0, indent
			}
			text.WriteString(strings.Repeat(" ", spaces) + word)
			used, spaces, begun = used+spaces+took, 0, true
		}
		spaces++
	}
	return strings.ReplaceAll(text.String(), noBreak, " ")
}

// Cut returns as much of the beginning of a line as takes at most that many columns.
func Cut(line string, most int) string {
	used := 0
	for i, r := range line {
		if used += columns(r); used > most {
			return line[:i]
		}
	}
	return line
}
