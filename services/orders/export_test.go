package orders

import (
	"time"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/trail"
)

// Bounded is Wire with bounds that a test can reach, and the test's clock.
func Bounded(underWay, open int, now func() time.Time) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		b := defaultBounds
		b.underWay, b.open, b.now = underWay, open, now
		return wire(rt, b, nil, nil), nil
	}
}

// Clocked is Wire with traces from the source, and the test's clock.
func Clocked(source trail.Source, now func() time.Time) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		b := defaultBounds
		b.now = now
		return wire(rt, b, source, nil), nil
	}
}

// Impatient is Wire with readers of feeds that may not be slow.
func Impatient(slowest time.Duration) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		b := defaultBounds
		b.slowest = slowest
		return wire(rt, b, nil, nil), nil
	}
}

// MaxWatchers is how many readers of feeds there may be.
const MaxWatchers = maxWatchers
