package web

import (
	"fmt"
	"math"
)

// Chart is columns beside each other, each of parts on top of each other. Places
// are percentages, so that it has any size.
type Chart struct {
	Label   string // what it shows, in a sentence: for who does not see it
	Columns []Column
	Lines   []Mark // across, with what they stand for
	Marks   []Mark // below, and upright where something is to be pointed at
	Points  []Mark
}

// Column is one of a Chart's.
type Column struct {
	X, Width string
	Title    string
	Parts    []Part
}

// Part is a part of a Column.
type Part struct{ Class, Y, Height string }

// Series is what a Chart is made from: for each class of parts, a value for each
// column, none of them negative.
type Series struct {
	Classes []string // the lowest part first
	Values  [][]float64
	Titles  []string
	Scale   func(v float64) string // how a value is told
}

// top leaves room for the label of the highest line, in percent.
const top = 12

// NewChart lays a chart out.
func NewChart(label string, s Series) Chart {
	c := Chart{Label: label}
	n := len(s.Titles)
	highest := 0.0
	for i := range n {
		highest = max(highest, sum(s.Values, i))
	}
	ceiling := niceCeiling(highest)
	y := func(v float64) float64 { return 100 - v/ceiling*(100-top) }
	for _, v := range []float64{ceiling / 2, ceiling} {
		c.Lines = append(c.Lines, Mark{X: percent(y(v)), Label: s.Scale(v)})
	}
	width := 100 / float64(max(n, 1))
	for i := range n {
		column := Column{X: percent(width * (float64(i) + 0.1)), Width: percent(width * 0.8), Title: s.Titles[i]}
		below := 0.0
		for j, class := range s.Classes {
			if v := s.Values[j][i]; v > 0 {
				column.Parts = append(column.Parts, Part{class, percent(y(below + v)), percent(y(below) - y(below+v))})
				below += v
			}
		}
		c.Columns = append(c.Columns, column)
	}
	return c
}

func sum(values [][]float64, i int) (total float64) {
	for _, v := range values {
		total += v[i]
	}
	return total
}

// niceCeiling is the first of 2, 4, 10, 20, 40, 100… that is no less than v.
func niceCeiling(v float64) float64 {
	if !(v > 2) || math.IsInf(v, 0) {
		return 2
	}
	ten := math.Pow10(int(math.Floor(math.Log10(v))))
	for _, m := range []float64{1, 2, 4, 10} {
		if m*ten >= v {
			return m * ten
		}
	}
	return 10 * ten
}

// At is where the middle of a column is, which may be between two.
func (c Chart) At(column float64) string {
	return percent((column + 0.5) / float64(max(len(c.Columns), 1)) * 100)
}

// Length is a share of the largest, as a length.
func Length(v, largest int64) string {
	if largest <= 0 || v <= 0 {
		return "0%"
	}
	return percent(float64(v) / float64(largest) * 100)
}

// Count is a number for people.
func Count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
