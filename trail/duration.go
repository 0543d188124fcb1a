package trail

import (
	"fmt"
	"strings"
	"time"
)

// Counted returns a number with its noun, such as "1 trace", "2 traces" and "2 deliveries".
func Counted(n int, noun string) string {
	if stem, y := strings.CutSuffix(noun, "y"); n != 1 && y {
		noun = stem + "ies"
	} else if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Duration formats a duration with three significant digits, such as 950 µs, 4.20 ms
// and 1.03 s. From 100 s on it counts whole seconds.
func Duration(d time.Duration) string {
	switch abs := max(d, -d); {
	case abs == 0:
		return "0 ms"
	case abs < 10*time.Microsecond:
		return fmt.Sprintf("%.2g µs", float64(d)/float64(time.Microsecond))
	case abs < time.Millisecond-500:
		return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
	case abs < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	case abs < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case abs < time.Second-500*time.Microsecond:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	case abs < 100*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
