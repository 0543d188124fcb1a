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

func TestCounted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n          int
		noun, want string
	}{
		{0, "trace", "0 traces"}, {1, "trace", "1 trace"}, {2, "trace", "2 traces"}, {1, "more span", "1 more span"},
		{1, "delivery", "1 delivery"}, {5, "delivery", "5 deliveries"},
	} {
		if got := trail.Counted(tc.n, tc.noun); got != tc.want {
			t.Errorf("Counted(%d, %q) = %q, want %q", tc.n, tc.noun, got, tc.want)
		}
	}
}
