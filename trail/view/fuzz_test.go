package view

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

// ranging is a story with spans that begin and end at moments, in pairs: nanoseconds since
// 1970, in any order.
func ranging(moments []int64) *trail.Story {
	var found trail.Spans
	for i := range len(moments) / 2 {
		found.Spans = append(found.Spans, trail.Span{
			Ref: trail.Ref{TraceID: fmt.Sprintf("%032x", 1), SpanID: fmt.Sprintf("%016x", i+1)}, Service: "a", Name: "work",
			Start: time.Unix(0, moments[2*i]), End: time.Unix(0, moments[2*i+1]),
		})
	}
	return trail.Stitch(found, trail.Options{}, trail.Ref{TraceID: fmt.Sprintf("%032x", 1)})
}

// FuzzNew draws spans of any times, also such that end before they start: the picture has
// bounds.
func FuzzNew(f *testing.F) {
	add := func(moments ...int64) {
		var text []byte
		for _, m := range moments {
			text = binary.BigEndian.AppendUint64(text, uint64(m))
		}
		f.Add(text)
	}
	add(0, 0, 5, 3)
	add(math.MinInt64, math.MaxInt64, 0, math.MinInt64)
	add(0, 1, math.MaxInt64-5, math.MaxInt64, math.MaxInt64-5, 7)
	f.Fuzz(func(t *testing.T, text []byte) {
		var moments []int64
		for at := range slices.Chunk(text, 8) {
			if len(at) == 8 && len(moments) < 400 {
				moments = append(moments, int64(binary.BigEndian.Uint64(at)))
			}
		}
		bounded(t, New(ranging(moments), Options{}).Waterfall)
	})
}

// bounded fails the test if the picture leaves its frame, or has many ticks.
func bounded(t *testing.T, w *Waterfall) {
	t.Helper()
	if markEvery/2*float64(len(w.Ticks)) > 100 {
		t.Errorf("%d ticks", len(w.Ticks))
	}
	for _, b := range w.Bars {
		if x, width := number(t, b.X), number(t, b.Width); !(x >= 0 && width >= 0 && x+width <= 100.01) {
			t.Errorf("a bar is at %s and takes %s", b.X, b.Width)
		}
	}
}

// Spans that end evenly over all centuries that a timestamp can have, most before they
// start, are drawn in no time.
func TestCenturies(t *testing.T) {
	t.Parallel()
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	var moments []int64
	for year := 1709; year < 2262; year += 25 {
		moments = append(moments, start, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	}
	drawn := make(chan *Waterfall, 1)
	go func() { drawn <- New(ranging(moments), Options{}).Waterfall }()
	select {
	case w := <-drawn:
		bounded(t, w)
	case <-time.After(10 * time.Second):
		t.Fatal("the picture takes longer than 10 s")
	}
}
