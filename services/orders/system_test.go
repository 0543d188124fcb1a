package orders_test

import (
	"context"
	"net/http"
	"testing"

	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// The same in the system, where other services answer beside it.
func TestInTheSystem(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t)
	s := shoptest.Of(sys)
	for _, path := range []string{"/healthz", "/readyz", "/catalog", "/orders", "/analytics"} {
		s.MustDo(t, http.MethodGet, path, "", nil).WantStatus(t, http.StatusOK)
	}
	s.MustDo(t, http.MethodGet, "/nothing", "", nil).WantProblem(t, http.StatusNotFound)
	s.MustDo(t, http.MethodPut, "/orders", "", nil).WantProblem(t, http.StatusMethodNotAllowed)

	placed := s.MustPlace(t)
	order, err := sys.Shop.Await(context.Background(), placed.ID, func(o orders.Order) bool { return o.State == orders.StateShipped })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := order.Total, placed.Total; got != want {
		t.Errorf("total = %+v, want %+v", got, want)
	}
	s.MustDo(t, http.MethodDelete, "/orders/"+placed.ID, "", nil).WantProblem(t, http.StatusConflict, "shipped or cancelled already")
}
