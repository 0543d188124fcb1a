package storefront_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// A client that has an order's id, and the list has all ids, sees the order's course but
// not the customer: only the first letter and the domain of the mail address.
func TestNobodySeesWhoOrders(t *testing.T) {
	t.Parallel()
	s := everything(t, systemtest.Deadline(demo.OrderDeadline))
	for _, change := range []map[string]any{
		{"payment.token": "tok_ok"},
		{"payment.token": "tok_declined"},
	} {
		change["customer.name"], change["customer.email"], change["shipping.address"] = "Quirin Zapf", "quirin.zapf@example.org", "7 Xylem Street"
		a := s.MustPost(t, shoptest.Body(change))
		a.WantStatus(t, http.StatusAccepted)
		id := a.MustOrder(t).ID
		mailed := func(o orders.Order) bool {
			return slices.ContainsFunc(o.Events, func(e orders.Event) bool {
				return e.Type == event.NotifyShipped || e.Type == event.NotifyCancelled
			})
		}
		systemtest.Until(t, "the customer has mail", func() bool { return mailed(s.MustGet(t, "/orders/"+id).MustOrder(t)) })
		page := wantPage(t, MustVisit(t, s, "/orders/"+id), http.StatusOK, "to q…@example.org, ", "thank you for your order", "Order "+id)
		feed := shoptest.Follow(t, s.URL+"/orders/"+id+"/events", "")
		var events []string
		for range s.MustGet(t, "/orders/"+id).MustOrder(t).Events {
			var e json.RawMessage
			if _, ok := feed.Next(t, &e); !ok {
				t.Fatal("the feed ended")
			}
			events = append(events, string(e))
		}
		for what, shown := range map[string]string{
			"the page": page, "the feed": strings.Join(events, " "),
			"the order": string(s.MustGet(t, "/orders/"+id).Content), "the list": string(s.MustGet(t, "/orders").Content),
			"the shop":         string(MustVisit(t, s, "/").Content),
			"the trail":        string(s.MustGet(t, "/orders/"+id+"/trail").Content),
			"the trail's page": string(MustVisit(t, s, "/orders/"+id+"/trail").Content),
		} {
			for _, private := range []string{"Quirin", "Zapf", "quirin", "zapf", "Xylem"} {
				if strings.Contains(shown, private) {
					t.Errorf("%s shows %q: %s", what, private, shown)
				}
			}
		}
	}
}
