package trail_test

import (
	"testing"
	"time"

	"example.org/ordertrail/trail"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                               "0 ms",
		900:                             "0.9 µs",
		12 * time.Microsecond:           "12 µs",
		999_600:                         "1.00 ms",
		1234 * time.Microsecond:         "1.23 ms",
		45678 * time.Microsecond:        "45.7 ms",
		456 * time.Millisecond:          "456 ms",
		999_700 * time.Microsecond:      "1.00 s",
		3209 * time.Millisecond:         "3.21 s",
		2 * time.Minute:                 "2m0s",
		-1500 * time.Microsecond:        "-1.50 ms",
		100*time.Second + 4*time.Second: "1m44s",
	} {
		if got := trail.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}
