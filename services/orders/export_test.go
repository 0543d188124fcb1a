package orders

import (
	"log/slog"
	"net/http"
	"time"

	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/service"
)

// Wire wires the API alone, with bounds that a test can reach and the test's clock.
func Wire(underWay, open int, now func() time.Time) service.Wire {
	b := defaultBounds
	b.underWay, b.open, b.openPerClient, b.now = underWay, open, open, now
	return wire(b)
}

// WirePerClient wires the API alone, with a bound on the open orders of one client.
func WirePerClient(open, openPerClient int) service.Wire {
	b := defaultBounds
	b.open, b.openPerClient = open, openPerClient
	return wire(b)
}

// WireLookAgain wires the API alone, with a bound on requests that wait for young orders.
func WireLookAgain(most int) service.Wire {
	b := defaultBounds
	b.lookAgain = most
	return wire(b)
}

func wire(b bounds) service.Wire {
	return func(rt *service.Runtime) (service.Part, error) {
		s, mux := newShop(rt, b), respond.NewMux()
		s.Routes(mux, nil)
		return service.Part{Run: s.Run, HTTP: mux}, nil
	}
}

// Guarded returns a handler behind the bound on requests under way.
func Guarded(underWay int, h respond.Handler) http.Handler {
	return (&Shop{rt: &service.Runtime{Log: slog.New(slog.DiscardHandler)}, underWay: make(chan struct{}, underWay)}).Guard(h)
}
