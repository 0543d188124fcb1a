package web

import (
	"cmp"
	"fmt"
	"slices"
)

// Chart is a column chart. Its positions are percentages, so that it fits any size.
type Chart struct {
	Label   string // one sentence for screen readers
	Columns []Column
	Lines   []Mark // horizontal lines, labelled with their values
	Marks   []Mark // labels below the columns
	Points  []Mark // vertical lines that mark a place on the axis
}

// Column is one column of a Chart. Its parts are stacked.
type Column struct {
	X, Width string
	Title    string
	Parts    []Part
}

// Part is one part of a Column.
type Part struct{ Class, Y, Height string }

// Stack is the input for one Column.
type Stack struct {
	Title  string
	Mark   string  // label below the column; empty for none
	Values []int64 // one for each class, the lowest part first; only positive values are drawn
}

// top leaves room for the label of the highest line, in percent.
const top = 12

// NewChart lays out a chart with a column for each stack. The classes are the style
// classes of the parts; scale formats the values of the horizontal lines.
func NewChart(label string, classes []string, scale func(int64) string, stacks []Stack) Chart {
	c := Chart{Label: label, Columns: make([]Column, len(stacks))}
	highest := int64(0)
	for _, s := range stacks {
		highest = max(highest, s.total())
	}
	ceiling := niceCeiling(highest)
	y := func(v float64) float64 { return 100 - v/ceiling*(100-top) }
	for _, v := range []float64{ceiling / 2, ceiling} {
		c.Lines = append(c.Lines, Mark{X: percent(y(v)), Label: scale(int64(v))})
	}
	width := 100 / float64(max(len(stacks), 1))
	for i, s := range stacks {
		column := Column{X: percent(width * (float64(i) + 0.1)), Width: percent(width * 0.8), Title: s.Title}
		below := 0.0
		for j, class := range classes {
			if v := float64(s.Values[j]); v > 0 {
				column.Parts = append(column.Parts, Part{class, percent(y(below + v)), percent(y(below) - y(below+v))})
				below += v
			}
		}
		c.Columns[i] = column
		if s.Mark != "" {
			c.Marks = append(c.Marks, Mark{X: c.At(float64(i)), Label: s.Mark})
		}
	}
	return c
}

func (s Stack) total() (sum int64) {
	for _, v := range s.Values {
		sum += v
	}
	return sum
}

// niceCeiling returns the first of 2, 4, 10, 20, 40, 100… that is at least v.
func niceCeiling(v int64) float64 {
	for ten := 1.0; ; ten *= 10 {
		for _, c := range []float64{2 * ten, 4 * ten, 10 * ten} {
			if c >= float64(v) {
				return c
			}
		}
	}
}

// At returns the position of a column's middle. A fraction is between two columns.
func (c Chart) At(column float64) string {
	return percent((column + 0.5) / float64(max(len(c.Columns), 1)) * 100)
}

// CountBar is one bar of a bar chart.
type CountBar struct {
	Name   string
	Count  int64
	Length string // as a share of the longest bar
}

// CountBars returns a bar for each count, the longest first.
func CountBars(counts map[string]int64) (all []CountBar) {
	for name, n := range counts {
		all = append(all, CountBar{Name: name, Count: n})
	}
	slices.SortFunc(all, func(a, b CountBar) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	for i, b := range all {
		all[i].Length = percent(float64(max(b.Count, 0)) / float64(max(all[0].Count, 1)) * 100)
	}
	return all
}

// Count formats n with a comma between thousands.
func Count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Mark is a labelled place of a chart.
type Mark struct{ X, Label string }

func percent(x float64) string { return fmt.Sprintf("%.2f%%", x) }
