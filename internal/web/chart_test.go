package web

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

func number(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A column is as high as its parts, and none is higher than the picture.
func TestChart(t *testing.T) {
	t.Parallel()
	c := NewChart("", []string{"a", "b"}, Count, []Stack{{Values: []int64{1, 2}}, {Values: []int64{0, 0}}, {Values: []int64{3, 4}, Mark: "z"}})
	if len(c.Columns) != 3 || len(c.Columns[1].Parts) != 0 || len(c.Columns[2].Parts) != 2 {
		t.Fatalf("columns = %+v", c.Columns)
	}
	if got := c.Lines[1].Label; got != "10" {
		t.Errorf("the highest line is %s, want 10", got)
	}
	parts := c.Columns[2].Parts
	if y, h := number(t, parts[0].Y), number(t, parts[0].Height); y+h != 100 || h != 3*8.8 {
		t.Errorf("the lowest part begins at %g and is %g high", y, h)
	}
	if y, h := number(t, parts[1].Y), number(t, parts[1].Height); y < 0 || y+h > number(t, parts[0].Y)+0.01 {
		t.Errorf("the part above begins at %g and is %g high", y, h)
	}
	if len(c.Marks) != 1 || c.Marks[0] != (Mark{X: c.At(2), Label: "z"}) {
		t.Errorf("marks = %v", c.Marks)
	}
	for v, want := range map[int64]float64{0: 2, 2: 2, 3: 4, 4: 4, 5: 10, 11: 20, 999: 1000, math.MaxInt64: 1e19} {
		if got := niceCeiling(v); got != want {
			t.Errorf("niceCeiling(%d) = %g, want %g", v, got, want)
		}
	}
}
