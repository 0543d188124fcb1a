package storefront

import (
	"time"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/trail"
)

// Wire wires orders with its pages on a source of traces, for whose answers it waits
// this long, and with the test's clock.
func Wire(traces trail.Source, wait time.Duration, now func() time.Time) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		s := newStorefront(rt, traces, nil)
		s.maps.now, s.sourceTimeout = now, wait
		return service.Part{Run: s.shop.Run, HTTP: s.handler()}, nil
	}
}
