package load

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// While a run waits, it prints a line every few seconds, and the first failure once. On a
// terminal it prints a bar, which disappears at the end.
func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			l := load{orders: make([]order, 100_000), start: time.Now()}
			l.placed.Store(99_999)
			l.ended.Store(50_000)
			l.failed.Store(12_345)
			err := errors.New("connection refused")
			l.firstFailure.Store(&err)
			stop := l.showProgress(&out, terminal)
			<-time.After(10 * time.Second) // of the bubble's clock
			stop()
			lines := strings.FieldsFunc(out.String(), func(r rune) bool { return strings.ContainsRune("\r\n", r) })
			least, want := 4, "50000 of 100000 ended, 99999 placed, 12345 failed, 9 s"
			if terminal {
				least, want = 50, "[=========       ] 50000 of 100000 ended, 99999 placed, 12345 failed, 10 s"
			}
			if len(lines) < least {
				t.Errorf("%d lines: %q", len(lines), lines)
			}
			if got := strings.Count(out.String(), "first failure: connection refused\n"); got != 1 {
				t.Errorf("the first failure is printed %d times: %q", got, lines)
			}
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in %q", want, lines)
			}
			for _, line := range lines {
				if n := len(strings.TrimPrefix(line, "\x1b[K")); n > 80 {
					t.Errorf("%d columns: %q", n, line)
				}
			}
			if terminal != strings.HasSuffix(out.String(), "\r\x1b[K") {
				t.Errorf("at the end: %q", lines[len(lines)-1])
			}
		})
	}
}
