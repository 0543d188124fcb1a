package orders

import (
	"time"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
)

// Wire wires the API alone, with bounds that a test can reach and the test's clock.
func Wire(underWay, open int, now func() time.Time) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		b := defaultBounds
		b.underWay, b.open, b.now = underWay, open, now
		s, mux := newShop(rt, b), respond.NewMux()
		s.Routes(mux, nil)
		return service.Part{Run: s.Run, HTTP: mux}, nil
	}
}
